#include "cmd.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "config.h"

#define CMD_NAME_MAX 32 /* bytes of "key new" and the like */

#define PASS_ARGS "[--passphrase-file FILE | --passphrase-fd N]"
#define PASS_DETAILS \
	"  --passphrase-file FILE  the passphrase is the first line of FILE\n" \
	"  --passphrase-fd N       ... of the descriptor N\n"
#define LOGIC_DETAILS \
	"  --term                  a line is a term, not a formula\n" \
	"  --principal             ... a principal\n" \
	"A line that is wrong gives 'error: LINE: why' in its place, and exit status 1 at the end.\n"
#define POLICY_DETAILS \
	"  --policy exact          for exactly this name (the default)\n" \
	"  --policy program        for this executable and its successors, as this user\n" \
	"  --policy host           for any program of this host\n"
#define LABEL_DETAILS \
	"  --policy policy         for whoever the domain's rules let unseal the label\n"

#define WHICH_DETAILS \
	"PROGRAM is one of 'tao ps': its name, process or instance; pid:N and id:N say which is meant.\n"

const struct cmd cmd_table[] = {
	{ "init", NULL, "[--domain NAME] [--root soft|parent] " PASS_ARGS,
	  "makes a host and its domain", cmd_init,
	  "  --domain NAME           name of the domain, for people [the machine's name]\n"
	  "  --root soft|parent      keys under a passphrase [soft], or sealed by another host,\n"
	  "                          under which taod will run: no passphrase\n"
	  PASS_DETAILS
	  "Without either, the passphrase is asked for on the terminal, twice.\n" },
	{ "up", NULL, "[--foreground] " PASS_ARGS, "starts the host", cmd_up,
	  "  --foreground            stay in the foreground, as systemd wants it\n"
	  PASS_DETAILS
	  "Without either, systemd's credential 'passphrase' is used, or the passphrase is\n"
	  "asked for on the terminal.\n" },
	{ "down", NULL, "", "stops the host, and waits until it is gone", cmd_down, NULL },
	{ "run", NULL, "[OPTION]... [--] PROGRAM [ARG]...",
	  "measures and registers a program, and becomes it", cmd_run,
	  "  --env NAME=VALUE        a variable for the program; it is measured\n"
	  "  --env NAME              the same, with the value that it has here\n"
	  "  --config FILE           a configuration file to measure\n"
	  "  --measure closure       executable, libraries, arguments ... (the default)\n"
	  "  --measure program       the executable alone, where a rule says SelfContained\n"
	  "  --openssl-conf FILE     another openssl.cnf than the host's; it is measured\n"
	  "  --name LABEL            a name for people, in tao ps\n"
	  "  --prepare               gets it its certificates, and does not execute it\n"
	  "  --quiet                 no notices of the host\n"
	  "The exit status is the program's; 127: no such program, 126: it cannot be started.\n" },
	{ "ps", NULL, "[--long]", "lists the programs that run under the host", cmd_ps,
	  "  --long                  instance, connections, path and principal as well\n" },
	{ "stop", NULL, "[--timeout SECONDS] PROGRAM", "asks a program to end, and waits for it", cmd_stop,
	  "  --timeout SECONDS       how long [30]; 0: not at all\n"
	  WHICH_DETAILS },
	{ "kill", NULL, "[--signal SIGNAL] PROGRAM", "ends a program", cmd_kill,
	  "  --signal SIGNAL         another signal than KILL, by name or number\n"
	  WHICH_DETAILS },
	{ "log", "verify", "[--host PRINCIPAL] [--has RECORD:HASH] [DIR]",
	  "says whether the audit log is as the host wrote it", cmd_log_verify,
	  "  --host PRINCIPAL        whose log it is [that of the running host]\n"
	  "  --has RECORD:HASH       the log has this record: a head that was noted elsewhere\n"
	  "DIR holds the log's files [the host's audit directory].\n" },
	{ "log", NULL, "[--follow] [--since TIME] [N]", "shows the audit log", cmd_log,
	  "  --follow                goes on with what comes, until interrupted\n"
	  "  --since TIME            only what is newer: YYYY-MM-DD[THH:MM[:SS[Z]]], HH:MM, or how\n"
	  "                          long ago: 30s, 10m, 2h, 1d\n"
	  "  N                       only the last N records\n"
	  "With --json, the records as they are in the log.\n" },
	{ "status", NULL, "", "shows the host", cmd_status, NULL },
	{ "key", "new", "NAME --for PROGRAM [OPTION]... [-- ARG...]",
	  "makes a sealed key for a program", cmd_key_new,
	  "  --for PROGRAM           whose key it is\n"
	  "  --user USER             as which user the program will run [the caller]\n"
	  "  --policy program        that program and its successors, as that user (the default)\n"
	  "  --policy exact          only with the very same libraries and arguments (ARG...)\n"
	  "  --policy host           any program of this host\n"
	  "  --policy policy         whoever the domain's rules authorise\n"
	  "  --type TYPE             p256 (the default), p384, p521, rsa2048, rsa3072, rsa4096,\n"
	  "                          rsa-pss-2048, rsa-pss-3072, rsa-pss-4096, ed25519, x25519;\n"
	  "                          with OpenSSL 3.5 ml-dsa-44, ml-dsa-65, ml-dsa-87\n"
	  "  --purpose PURPOSE       any (the default), tls, tls13, sign, decrypt\n"
	  "  --custody host          the host signs (the default)\n"
	  "  --custody program       the program gets the private key into its memory\n"
	  "  --pss-digest DIGEST     what rsa-pss keys are restricted to: SHA256, SHA384, SHA512\n"
	  "  --pss-salt N            ... and to a salt of at least N bytes\n" },
	{ "key", "import", "NAME FILE --for PROGRAM [OPTION]... [-- ARG...]",
	  "seals a private key that exists, marked as imported for ever", cmd_key_import,
	  "  --for, --user, --policy, --purpose, --custody   as with key new\n"
	  PASS_DETAILS
	  "FILE is PEM. Delete it when you are sure: whoever has a copy of it has the key.\n" },
	{ "key", "show", "NAME [--pubkey] [--old] [--user USER]", "shows all about a key", cmd_key_show,
	  "  --pubkey                its public half as PEM, and nothing else\n"
	  "  --old                   the generation before\n"
	  "  --user USER             a key of this user, for the host's owner [the caller's]\n" },
	{ "key", "rotate", "NAME [--user USER]", "makes a key's next generation", cmd_key_rotate,
	  "  --user USER             a key of this user, for the host's owner [the caller's]\n"
	  "Programs that have loaded the key go on with the generation before.\n" },
	{ "key", "delete", "NAME [--old] [--yes] [--user USER]", "deletes a key for ever",
	  cmd_key_delete,
	  "  --old                   only the generation before the newest\n"
	  "  --yes                   without asking\n"
	  "  --user USER             a key of this user, for the host's owner [the caller's]\n" },
	{ "key", "list", "", "lists sealed keys", cmd_key_list, NULL },
	{ "key", "pem", "NAME [--out FILE]", "prints a key's stub, to use as a key file", cmd_key_pem,
	  "  --out FILE              writes it there\n" },
	{ "cert", "show", "NAME [--pem] [--user USER]", "shows the certificate of a key",
	  cmd_cert_show,
	  "  --pem                   certificate and chain, as PEM\n"
	  "  --user USER             of a key of this user, for the host's owner [the caller's]\n" },
	{ "cert", "request", "NAME --dns DNSNAME... [--subject SUBJECT] [--out FILE] [--user USER]",
	  "makes a certificate request for a key, for a public CA", cmd_cert_request,
	  "  --dns DNSNAME           for this name\n"
	  "  --subject SUBJECT       /C=DE/O=Example/CN=www.example.org [CN: the first DNS name]\n"
	  "  --out FILE              writes it there\n"
	  "  --user USER             of a key of this user, for the host's owner [the caller's]\n" },
	{ "cert", "import", "NAME FILE... [--user USER]", "takes the certificate that a CA gave for a key",
	  cmd_cert_import,
	  "  --user USER             of a key of this user, for the host's owner [the caller's]\n"
	  "FILE is PEM: the key's certificate and those above it, in any order; -: standard input.\n"
	  "The host does not renew it: import the next one in time.\n" },
	{ "cert", "remove", "NAME [--user USER]", "takes an imported certificate away again",
	  cmd_cert_remove,
	  "  --user USER             of a key of this user, for the host's owner [the caller's]\n"
	  "The key has the domain's again, from its program's next start or the next renewal on.\n" },
	{ "trust", NULL, "PROGRAM [--serves DNSNAME]... [--user USER | --any-user] [--both-for TIME]"
	  " [--replaces HASH]... [--remove]",
	  "lets the domain issue certificates to a program, also after an upgrade", cmd_trust,
	  "  --serves DNSNAME        and put this DNS name into them\n"
	  "  --user USER             ... when this user runs it [the calling one]\n"
	  "  --any-user              ... whoever runs it\n"
	  "  --both-for TIME         after an upgrade: the older executable works for that long as well\n"
	  "                          (90s, 5m, 12h, 30d), and is refused then\n"
	  "  --replaces HASH         ... which is that one, besides those that were at this path\n"
	  "  --remove                takes it back\n" },
	{ "connect", NULL, "CLIENT SERVER [OPTION]...", "lets a program talk to another over Tao channels",
	  cmd_peers_connect,
	  "  --user USER             when this user runs them [the calling one]\n"
	  "  --client-user USER      ... the client only\n"
	  "  --server-user USER      ... the server only\n"
	  "  --any-user              whoever runs them\n"
	  "  --remove                takes it back\n"
	  "CLIENT and SERVER are programs, or principals as rules have them: key([...]).Measured(...).\n" },
	{ "revoke", NULL, "PROGRAM | HASH | PRINCIPAL [--undo]",
	  "takes from a program what the host and its peers do for it", cmd_revoke,
	  "  --undo                  takes it back\n"
	  "HASH is an executable's or a key's SHA-256, PRINCIPAL as rules have it.\n" },
	{ "group", "key", "[--epoch N] [--raw] MEMBER...",
	  "prints a key that this program and the named ones can all have", cmd_group_key,
	  "  --epoch N               that of another epoch than the present one\n"
	  "  --raw                   the bytes themselves, not hex\n"
	  "MEMBER is a program's principal, as tao name prints it.\n" },
	{ "policy", "show", "", "lists the domain's rules", cmd_policy_show, NULL },
	{ "policy", "add", "FACT", "adds a rule", cmd_policy_add, NULL },
	{ "policy", "remove", "FACT", "removes a rule", cmd_policy_remove, NULL },
	{ "host", "epoch", "[--new] [--retire N]", "shows or changes the epochs of sealing",
	  cmd_host_epoch,
	  "  --new                   begins a new epoch; what was sealed before still opens\n"
	  "  --retire N              what was sealed in epoch N and before does not open any more\n" },
	{ "host", "counters", "[--new | --remove ID]", "lists the counters of programs",
	  cmd_host_counters,
	  "  --new                   makes an empty table, if the host has none\n"
	  "  --remove ID             removes one; what is sealed with it never opens again\n" },
	{ "conf", "print", "", "prints the openssl.cnf for this host", cmd_conf_print, NULL },
	{ "conf", "check", "FILE", "says what is wrong in an openssl.cnf", cmd_conf_check, NULL },
	{ "doctor", NULL, "[PID|HOST:PORT]",
	  "says whether a process or a server really uses the Tao, or whether all is well",
	  cmd_doctor, NULL },
	{ "logic", "encode", "[--term | --principal] < TEXT", "encodes formulas, a line each, in hex",
	  cmd_logic_encode, LOGIC_DETAILS },
	{ "logic", "decode", "[--term | --principal] < HEX", "prints the text of encoded formulas",
	  cmd_logic_decode, LOGIC_DETAILS },
	{ "name", NULL, "", "prints the name of the program that it runs in", cmd_name, NULL },
	{ "extend", NULL, "EXTENSION", "puts more behind that name, for good", cmd_extend, NULL },
	{ "random", NULL, "[--raw] N", "prints random bytes of the host", cmd_random,
	  "  --raw                   the bytes themselves, not hex\n" },
	{ "secret", NULL, "[--raw] [--policy POLICY] [--label LABEL] N",
	  "prints a secret that the program gets again next time", cmd_secret,
	  "  --raw                   the bytes themselves, not hex\n"
	  POLICY_DETAILS LABEL_DETAILS
	  "  --label LABEL           each label has another secret\n" },
	{ "attest", NULL, "[OPTION]... FORMULA", "has the host sign what the program says",
	  cmd_attest,
	  "  --issuer PRINCIPAL      a subprincipal of the program says it\n"
	  "  --from NS               from when it holds, nanoseconds since 1970 [now]\n"
	  "  --until NS              until when [a year later]\n"
	  "  --out FILE              writes the attestation there\n" },
	{ "verify", NULL, "[--trust PRINCIPAL] [--at NS] [FILE]",
	  "verifies an attestation, prints what it says", cmd_verify,
	  "  --trust PRINCIPAL       the key at its root [that of the program's own host]\n"
	  "  --at NS                 the time for which it must hold [now]\n" },
	{ "seal", NULL, "[OPTION]... [FILE]", "has the host encrypt data for the program", cmd_seal,
	  POLICY_DETAILS LABEL_DETAILS
	  "  --label LABEL           seals a label with it, which unseal can insist on\n"
	  "  --expires WHEN          when it opens no more: 90s, 5m, 12h, 30d from now, or\n"
	  "                          nanoseconds since 1970\n"
	  "  --rollback LABEL        raises the program's counter: nothing older opens any more\n"
	  "  --prepare               ... not yet: prints the number to raise it to\n"
	  "  --out FILE              writes it there\n" },
	{ "unseal", NULL, "[OPTION]... [FILE]", "has the host decrypt it again", cmd_unseal,
	  "  --rollback              it was sealed with --rollback\n"
	  "  --label LABEL           only if it was sealed under this label\n"
	  "  --show-policy           prints the policy that it was sealed with, not the data\n"
	  "  --out FILE              writes the data there, for this user only\n" },
	{ "counter", "init", "LABEL [N]", "makes a counter of the program, or raises it to N",
	  cmd_counter_init, NULL },
	{ "counter", "get", "LABEL", "prints a counter of the program", cmd_counter_get, NULL },
	{ "protect", NULL, "--key FILE [--undo] [OPTION]... [FILE]",
	  "encrypts longer data, with a key that is sealed", cmd_protect,
	  "  --key FILE              the sealed key; it is made if it is not there\n"
	  "  --undo                  decrypts\n"
	  POLICY_DETAILS
	  "  --out FILE              writes it there, for this user only\n" },
	{ "compat", "inspect", "FILE", "says what a file of CloudProxy's holds, but for secrets",
	  cmd_compat_inspect, NULL },
	{ "compat", "verify", "--context TEXT --key SPKI MESSAGE SIGNATURE",
	  "verifies a SignedData", cmd_compat_verify,
	  "  --context TEXT          the context that it was signed with\n"
	  "  --key SPKI              file with the signer's SubjectPublicKeyInfo, DER\n" },
	{ "compat", "decrypt", "--key KEY FILE", "decrypts an EncryptedData", cmd_compat_decrypt,
	  "  --key KEY               file with a CryptoKey or CryptoKeyset\n" },
	{ "compat", "unpbe", "--password-fd N FILE", "opens a PBEData", cmd_compat_unpbe,
	  "  --password-fd N         the password is the first line of the descriptor N\n" },
	{ "compat", "derive", "--key KEY --context TEXT --length N",
	  "derives a secret, in hex", cmd_compat_derive,
	  "  --key KEY               file with a CryptoKey or CryptoKeyset\n"
	  "  --context TEXT          what it is for\n"
	  "  --length N              how many bytes\n" },
	{ "compat", "attestation", "[--at NS] [--trust PRINCIPAL] FILE",
	  "judges an attestation", cmd_compat_attestation,
	  "  --at NS                 the time for which it must hold, nanoseconds since 1970 [now]\n"
	  "  --trust PRINCIPAL       the key at its root [any: it is printed]\n" },
	{ "compat", "import", "DIR", "lists what can be taken over of a domain", cmd_compat_import,
	  NULL },
	{ NULL, NULL, NULL, NULL, NULL, NULL },
};

static const char global_details[] =
	"  -d DIR                  the host's directory [TAO_DIR, /var/lib/tao for root, else\n"
	"                          ~/.local/state/tao if that is a host, else /var/lib/tao]\n"
	"  --json                  output as JSON, where there is any\n"
	"  --help, --version\n";

static void full_name(const struct cmd *cmd, char *out, size_t n)
{
	snprintf(out, n, "%s%s%s", cmd->name, cmd->sub != NULL ? " " : "",
	         cmd->sub != NULL ? cmd->sub : "");
}

/* All subcommands, or those of one group ("key"). */
static void list(FILE *to, const char *group)
{
	char name[32];

	fprintf(to, "usage: tao [-d DIR] [--json] %s ...\n\n", group != NULL ? group : "COMMAND");
	for (const struct cmd *c = cmd_table; c->name != NULL; c++) {
		if (group != NULL && strcmp(c->name, group) != 0)
			continue;
		full_name(c, name, sizeof name);
		fprintf(to, "  %-19s %s\n", name, c->help);
	}
	fprintf(to, "\n%s'tao COMMAND --help' says more, tao(1) everything.\n", global_details);
}

static void one_line(FILE *to, const struct cmd *c)
{
	char name[32];

	full_name(c, name, sizeof name);
	fprintf(to, "usage: tao %s%s%s\n", name, *c->args != 0 ? " " : "", c->args);
}

int cmd_help(const struct cmd_env *env)
{
	const struct cmd *c = env->cmd;

	if (c == NULL) {
		list(stdout, *env->name != 0 ? env->name : NULL);
		return 0;
	}
	one_line(stdout, c);
	printf("%s\n\n%s%s", c->help, c->details != NULL ? c->details : "", global_details);
	return 0;
}

int cmd_version(const struct cmd_env *env)
{
	(void)env;
	printf("tao %s (%s)\n", TAO_VERSION, OpenSSL_version(OPENSSL_VERSION));
	return 0;
}

int cmd_usage(const struct cmd_env *env, const char *why_fmt, ...)
{
	struct tao_buf why = TAO_BUF_INIT;
	char text[TAO_WHY_MAX];
	va_list ap;

	va_start(ap, why_fmt);
	vsnprintf(text, sizeof text, why_fmt, ap);
	va_end(ap);
	cmd_escape(&why, text);
	fprintf(stderr, "tao%s%s: %s\n", *env->name != 0 ? " " : "", env->name, tao_buf_cstr(&why));
	if (env->cmd != NULL)
		one_line(stderr, env->cmd);
	fprintf(stderr, "'tao%s%s --help' says more.\n", *env->name != 0 ? " " : "", env->name);
	tao_buf_free(&why);
	return 2;
}

static int is_group(const char *word)
{
	for (const struct cmd *c = cmd_table; c->name != NULL; c++)
		if (c->sub != NULL && strcmp(c->name, word) == 0)
			return 1;
	return 0;
}

/* *words: how many of argv[0..] were the name. */
static const struct cmd *find(int argc, char **argv, int *words)
{
	for (const struct cmd *c = cmd_table; c->name != NULL; c++) {
		*words = c->sub == NULL ? 1 : 2;
		if (argc >= *words && strcmp(c->name, argv[0]) == 0 &&
		    (c->sub == NULL || strcmp(c->sub, argv[1]) == 0))
			return c;
	}
	return NULL;
}

/* name: room for the whole name, which env keeps. */
static int dispatch(struct cmd_env *env, int argc, char **argv, char name[CMD_NAME_MAX])
{
	int words;

	if (argc == 0) {
		list(stderr, NULL);
		return 2;
	}
	env->cmd = find(argc, argv, &words);
	if (env->cmd != NULL) {
		full_name(env->cmd, name, CMD_NAME_MAX);
		env->name = name;
		optind = 0; /* glibc: start afresh */
		return env->cmd->fn(env, argc - words + 1, argv + words - 1);
	}
	if (!is_group(argv[0]))
		return cmd_usage(env, "there is no command '%s'", argv[0]);
	env->name = argv[0];
	optind = 0;
	if (cmd_option(env, argc, argv, NULL) == CMD_STOP)
		return env->status;
	if (optind < argc)
		return cmd_usage(env, "there is no command '%s %s'", argv[0], argv[optind]);
	list(stderr, argv[0]);
	return 2;
}

__attribute__((visibility("default"))) int tao_commands(int argc, char **argv)
{
	struct cmd_env env = { .self = argv[0], .name = "", .in_order = 1 };
	char name[CMD_NAME_MAX];
	int status;

	/* The user's openssl.cnf may load this very project's provider. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	if (cmd_option(&env, argc, argv, NULL) == CMD_STOP) {
		status = env.status;
	} else {
		env.in_order = 0;
		status = dispatch(&env, argc - optind, argv + optind, name);
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		tao_fail_sys("the output could not be written");
		status = cmd_failed(&env);
	}
	return status;
}
