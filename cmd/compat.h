/*
 * tao compat: what its subcommands share, for the files of CloudProxy. Formats: man/tao-formats.7.
 *
 * A report is what a subcommand found: lines of a name and a value, in their
 * order; a name may come more than once. Nothing is printed before all went
 * well, so that half a report is never taken for a whole one. It never holds a
 * secret. A zeroed one is empty.
 */
#ifndef CMD_COMPAT_H
#define CMD_COMPAT_H

#include "cmd.h"

#define COMPAT_MAX_FILE (20u << 20) /* bytes of a file that is read: CloudProxy's largest message */

struct compat_line {
	const char *name; /* a constant, shorter than the column of cmd_field() */
	char *value;
};

struct compat_report {
	struct compat_line *line;
	size_t n, cap;
	enum tao_err err; /* first failure; later lines are not kept */
};

void compat_say(struct compat_report *r, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void compat_say_node(struct compat_report *r, const char *name, const struct tao_node *n);
/* "key([HASH])" of the bytes of a SubjectPublicKeyInfo; word: "key", "tpm" ... */
void compat_say_key(struct compat_report *r, const char *name, const char *word, const void *spki,
                    size_t n);
/* The sticky error. */
enum tao_err compat_err(const struct compat_report *r);
/* Prints it, as JSON an array of {"name", "value"} in "lines"; returns the exit status. */
int compat_print(const struct cmd_env *env, const struct compat_report *r);
void compat_clear(struct compat_report *r);

/* As cmd_input(), with at most COMPAT_MAX_FILE bytes; an empty file is TAO_EFORMAT. */
enum tao_err compat_read(const char *file, struct tao_buf *out);
/* Puts the file's name before the sentence of e. */
enum tao_err compat_quote(enum tao_err e, const char *file);

/* compat_inspect.c, which needs no command line: says what the file is, and what is in it. Not of
 * no bytes. TAO_EFORMAT: none of CloudProxy's. */
enum tao_err compat_inspect(const struct tao_rd *f, struct compat_report *r);
/* The principal of a DER certificate's key, its times and subject. key: the
 * caller's; NULL: not wanted. */
enum tao_err compat_certificate(const void *der, size_t n, struct compat_report *r, EVP_PKEY **key);

/* compat_config.c: what import needs of a tao.config, protocol buffers in text form. Members that
 * are not in the file are CloudProxy's defaults, but for the guard, which must be there. All are
 * freed by _clear(), also after a failure. */
struct compat_config {
	char *name, *policy_keys_path, *guard_type, *signed_acls_path, *signed_rules_path;
};
enum tao_err compat_config(const struct tao_buf *text, struct compat_config *out);
void compat_config_clear(struct compat_config *c);

#endif
