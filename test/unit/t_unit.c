/* System units in /proc/PID/cgroup: what is one, and what only looks like one. */
#include <string.h>

#include "../../host/unit.h"
#include "tap.h"

static void unit_is(const char *text, const char *want, const char *what)
{
	char unit[UNIT_MAX + 1];

	memset(unit, 'x', sizeof unit);
	unit_parse(text, strlen(text), unit);
	ok_str(unit, want, "%s", what);
}

static void services(void)
{
	unit_is("0::/system.slice/nginx.service\n", "system.slice/nginx.service", "version 2");
	unit_is("3:cpu:/x\n1:name=systemd:/system.slice/a.service\n0::/\n",
	        "system.slice/a.service",
	        "version 1");
	unit_is("0::/\n1:name=systemd:/system.slice/a.service\n", "system.slice/a.service",
	        "version 1, whatever the order");
	unit_is("1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n",
	        "system.slice/a.service", "with both, systemd's own");
	unit_is("0::/system.slice/system-postfix.slice/postfix@-.service\n",
	        "system.slice/system-postfix.slice/postfix@-.service", "a template's");
	unit_is("0::/system.slice/a:b.service\n", "system.slice/a:b.service",
	        "a colon in its name");
	ok_str(unit_name("system.slice/system-x.slice/x@1.service"), "x@1.service", "its name");
	ok_str(unit_name(""), "", "or none");
}

static void others(void)
{
	static const struct {
		const char *text, *what;
	} none[] = {
		{ "", "nothing" },
		{ "0::/\n", "the root" },
		{ "0::/system.slice\n", "a slice" },
		{ "0::/system.slice/\n", "a slice and a slash" },
		{ "0::/system.slice/.service\n", "a service without a name" },
		{ "0::/system.slice/a.scope\n", "a scope" },
		{ "0::/system.slice/a.slice\n", "a slice below" },
		{ "0::/system.slice/a.service/b\n", "below a service" },
		{ "0::/system.slice/a.service/b.service\n", "a service's own service" },
		{ "0::/system.slice/a/b.service\n", "below what is no slice" },
		{ "0::/user.slice/user-1.slice/user@1.service\n", "a user's manager" },
		{ "0::/user.slice/user-1.slice/user@1.service/app.slice/x.service\n", "a user's service" },
		{ "0::/../system.slice/a.service\n", "outside this namespace" },
		{ "0::/x/system.slice/a.service\n", "another system's" },
		{ "0::system.slice/a.service\n", "no absolute path" },
		{ "0::/system.slice/a.service", "a line without an end" },
		{ "0:/system.slice/a.service\n", "a field too few" },
		{ "1::/system.slice/a.service\n", "a hierarchy that is none" },
		{ "4:pids:/system.slice/a.service\n", "a controller's" },
		{ "5:name=other:/system.slice/a.service\n", "a hierarchy of somebody's" },
		{ "1:name=systemd:/x\n0::/system.slice/a.service\n", "systemd's own says no" },
		{ "\n:\n::\n:::\n", "empty fields" },
	};

	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
		unit_is(none[i].text, "", none[i].what);
}

static void limits(void)
{
	char text[2 * UNIT_MAX], unit[UNIT_MAX + 1];
	int n = snprintf(text, sizeof text, "0::/system.slice/%0*d.service\n", UNIT_MAX - 21, 1);

	unit_parse(text, (size_t)n, unit);
	ok(strlen(unit) == UNIT_MAX, "the longest path is taken whole: %zu", strlen(unit));
	n = snprintf(text, sizeof text, "0::/system.slice/%0*d.service\n", UNIT_MAX - 20, 1);
	unit_parse(text, (size_t)n, unit);
	ok_str(unit, "", "a longer one is none");
	unit_parse("0::/system.slice/a\0.service\n", 28, unit);
	ok_str(unit, "", "nor one with a NUL");
	for (size_t k = 0; k < 31; k++) {
		unit_parse("0::/system.slice/nginx.service\n", k, unit);
		if (unit[0] != 0)
			break;
	}
	ok_str(unit, "", "cut anywhere it is none");
}

int main(void)
{
	services();
	others();
	limits();
	return done();
}
