#include "cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Members that the line shows in their own way, or not at all. */
static int is_shown(const struct audit_member *m)
{
	static const char *const own[] = { "seq", "time", "prev", "event", "program", "path",
	                                   "label",
	                                   "instance", "pid", "uid", "result", "why", "key",
	                                   "signature",
	                                   "host" };

	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		if (m->key_n == strlen(own[i]) && memcmp(m->key, own[i], m->key_n) == 0)
			return 0;
	return 1;
}

/* A member's text, malloc'ed; NULL: it is not there. */
static char *text_of(const struct audit_record *r, const char *key)
{
	const struct audit_member *m = audit_member(r, key);
	struct tao_buf b = TAO_BUF_INIT;

	if (m == NULL)
		return NULL;
	audit_text(m, &b);
	return b.n > 0 ? tao_buf_steal(&b) : strdup("");
}

/* Peers choose some of it, as a name that is asked for: it must not look like members of the
 * record. */
static int is_plain(const char *key, size_t n, const char *text)
{
	int is_name = n == strlen("name") && memcmp(key, "name", n) == 0;

	return strpbrk(text, is_name ? "=\" " : "=") == NULL;
}

/* Otherwise in quotes, those in it doubled. */
static void put_member(struct tao_buf *out, const char *key, size_t n, const char *text)
{
	struct tao_buf quoted = TAO_BUF_INIT;

	tao_buf_fmt(out, " %.*s=", (int)n, key);
	if (is_plain(key, n, text)) {
		cmd_escape(out, text);
		return;
	}
	for (tao_buf_u8(&quoted, '"'); *text != 0; text++)
		tao_buf_fmt(&quoted, *text == '"' ? "\"\"" : "%c", *text);
	tao_buf_u8(&quoted, '"');
	cmd_escape(out, tao_buf_cstr(&quoted));
	tao_buf_free(&quoted);
}

static void put_escaped(struct tao_buf *out, const char *key, const char *text)
{
	put_member(out, key, strlen(key), text);
}

static void put_when(const struct audit_record *r, struct tao_buf *out)
{
	char text[AUDIT_TIME_LEN + 1], when[CMD_TIME_MAX];
	struct tm tm = { 0 };

	memcpy(text, r->time, AUDIT_TIME_LEN);
	text[AUDIT_TIME_LEN] = 0;
	if (strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) != NULL)
		tao_buf_str(out, cmd_time(timegm(&tm), when));
	else
		cmd_escape(out, text);
}

static void put_who(const struct audit_record *r, struct tao_buf *out)
{
	char *path = text_of(r, "path"), *label = text_of(r, "label"), *pid = text_of(r, "pid");
	const char *slash = path != NULL ? strrchr(path, '/') : NULL;
	char user[CMD_USER_MAX];

	tao_buf_u8(out, ' ');
	if (audit_member(r, "instance") != NULL && (label != NULL || path != NULL))
		cmd_escape(out, label != NULL ? label : slash != NULL ? slash + 1 : path);
	else if (r->has_uid)
		cmd_escape(out, cmd_user_name(r->uid, user));
	else
		tao_buf_str(out, "taod");
	if (pid != NULL)
		tao_buf_fmt(out, "[%s]", pid);
	tao_buf_str(out, ": ");
	free(path);
	free(label);
	free(pid);
}

static void put_members(const struct audit_record *r, struct tao_buf *out)
{
	char *key = text_of(r, "key"), *path = text_of(r, "path");

	if (key != NULL && !audit_is(r, "event", "checkpoint"))
		put_escaped(out, "key", key);
	if (path != NULL && (audit_member(r, "instance") == NULL ||
	                     audit_is(r, "event", "Host.Run")))
		put_escaped(out, "path", path);
	free(key);
	free(path);
	for (size_t i = 0; i < r->n; i++) {
		struct tao_buf b = TAO_BUF_INIT;

		if (!is_shown(&r->m[i]))
			continue;
		audit_text(&r->m[i], &b);
		put_member(out, r->m[i].key, r->m[i].key_n, tao_buf_cstr(&b));
		tao_buf_free(&b);
	}
}

void cmd_record_text(const struct audit_record *r, struct tao_buf *out)
{
	char *event = text_of(r, "event"), *result = text_of(r, "result"), *why = text_of(r, "why");

	put_when(r, out);
	put_who(r, out);
	cmd_escape(out, event != NULL ? event : "?");
	put_members(r, out);
	if (result != NULL) {
		tao_buf_str(out, ": ");
		cmd_escape(out, result);
	}
	if (result != NULL && why != NULL) {
		tao_buf_str(out, ": ");
		cmd_escape(out, why);
	} else if (why != NULL) {
		put_escaped(out, "why", why);
	}
	tao_buf_u8(out, '\n');
	free(event);
	free(result);
	free(why);
}
