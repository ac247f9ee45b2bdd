#include "cert.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define SOON (30 * 86400) /* seconds before its end in which a certificate is worth a warning */
#define SOON_PART 3       /* or this part of its life, if that is shorter */

enum cmd_level cert_ends(int64_t from, int64_t until)
{
	int64_t left = until - time(NULL);

	if (left < 0)
		return CMD_BAD;
	return left < SOON && left < (until - from) / SOON_PART ? CMD_WARNING : CMD_GOOD;
}

static void look_at(const Tao__KeyInfo *k, struct cmd_findings *f)
{
	char user[CMD_USER_MAX], of[CMD_USER_MAX + 16] = "", when[CMD_TIME_MAX], left[CMD_TIME_MAX];
	enum cmd_level level = cert_ends(k->cert_not_before, k->cert_not_after);

	if (k->uid != getuid())
		snprintf(of, sizeof of, " --user %s", cmd_user_name(k->uid, user));
	if (k->has_retired && k->retired)
		return; /* the key is of no use */
	if (k->cert_misfit)
		cmd_found(f, CMD_BAD, 0, "the certificate that was imported for key %s is for "
		          "another generation of it: programs that start have none; make a request "
		          "with 'tao cert request %s%s', and import what the CA answers with 'tao "
		          "cert import %s%s'", k->name, k->name, of, k->name, of);
	else if (level == CMD_BAD)
		cmd_found(f, CMD_BAD, 0, "the certificate that was imported for key %s ended on "
		          "%s: peers refuse it; make a request with 'tao cert request %s%s', and "
		          "import what the CA answers with 'tao cert import %s%s'", k->name,
		          cmd_time(k->cert_not_after, when), k->name, of, k->name, of);
	else if (level == CMD_WARNING)
		cmd_found(f, CMD_WARNING, 0, "the certificate that was imported for key %s ends in "
		          "%s, on %s, and the host cannot renew it: have the CA renew it, and "
		          "import that with 'tao cert import %s%s'", k->name,
		          cmd_duration(k->cert_not_after - time(NULL), left),
		          cmd_time(k->cert_not_after, when), k->name, of);
}

void cert_look(struct tao_conn *conn, struct cmd_findings *f)
{
	Tao__KeyListRequest rq = TAO__KEY_LIST_REQUEST__INIT;
	Tao__KeyListResponse *list = NULL;

	rq.has_cert_imported = rq.cert_imported = 1;
	if (cmd_call(conn, "Host.Keys", &rq.base, -1, &tao__key_list_response__descriptor,
	             (ProtobufCMessage **)&list, NULL, NULL) != TAO_OK) {
		cmd_found(f, CMD_BAD, 0, "%s", tao_why());
		return;
	}
	for (size_t i = 0; i < list->n_keys; i++)
		if (list->keys[i]->cert_imported) /* an older host sends them all */
			look_at(list->keys[i], f);
	tao__key_list_response__free_unpacked(list, NULL);
}
