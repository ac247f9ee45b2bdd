/*
 * JSON, written only (RFC 8259). Commas are put by the writer; text is
 * escaped, bytes that are not UTF-8 become U+FFFD. One value, no newline.
 *
 *   tao_json_begin(&j, '{'); tao_json_str(&j, "name", "web"); tao_json_end(&j, '}');
 *
 * key is NULL inside an array. Failures are the buffer's.
 */
#ifndef TAO_JSON_H
#define TAO_JSON_H

#include <stdint.h>

#include "buf.h"

struct tao_json {
	struct tao_buf *b;
	int comma; /* the next element needs one before it */
};

void tao_json_open(struct tao_json *j, struct tao_buf *b);
void tao_json_begin(struct tao_json *j, const char *key, char bracket); /* '{' or '[' */
void tao_json_end(struct tao_json *j, char bracket);                    /* '}' or ']' */
void tao_json_str(struct tao_json *j, const char *key, const char *value); /* NULL: null */
void tao_json_hex(struct tao_json *j, const char *key, const void *p, size_t n);
void tao_json_int(struct tao_json *j, const char *key, int64_t v);
void tao_json_bool(struct tao_json *j, const char *key, int v);

#endif
