# The C interface and the commands for scripts: what libtao.so.0 exports, the
# installed tree, the examples compiled against it and run under a host, and
# tao name, extend, random, attest, verify, seal, unseal, protect, secret.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use TaoTest;

my $dir = tmpdir();
my $lib = bldtop() . '/lib/libtao.so.0';
my ($cc) = slurp(bldtop() . '/Makefile') =~ /^CC = (.+)$/m;

# --- what is exported is what the headers declare

sub declared {
	my ($text) = @_;
	$text =~ s{/\*.*?\*/}{}gs;
	$text =~ s{^#.*(?:\\\n.*)*$}{}mg;
	1 while $text =~ s/\{[^{}]*\}/;/g; # bodies and fields
	return grep { defined } map { /^\s*static/ ? undef : /\b(tao_\w+)\s*\(/ ? $1 : undef }
	    map { s/__attribute__.*//sr } split /;/, $text;
}

my @headers = qw(tao.h err.h buf.h logic.h key.h crypter.h attest.h guard.h channel.h);
my %declared = map { $_ => 1 } map { declared(slurp(srctop() . "/tao/$_")) } @headers;
cmp_ok(scalar keys %declared, '>', 100, 'the headers declare functions');
my @exported = map { /^\S+ T (\S+)$/ ? $1 : () }
    split /\n/, run('nm', '-D', '--defined-only', $lib)->{out};
is_deeply([ sort @exported ], [ sort map { "$_\@\@LIBTAO_0" } keys %declared ],
	'libtao.so.0 exports what they declare, under a version, and nothing else');
like(run('readelf', '-d', $lib)->{out}, qr/SONAME.*\[libtao\.so\.0\]/, 'it is called libtao.so.0');
unlike(run('readelf', '-d', module_dir() . '/tao.so')->{out}, qr/NEEDED.*libssl/,
	'the provider does not load libssl');
my $elf = run('readelf', '-W', '-l', '-d', $lib)->{out};
ok($elf =~ /GNU_RELRO/ && $elf =~ /BIND_NOW|\bNOW\b/ && $elf =~ /GNU_STACK.*\sRW\s/, 'it is hardened');

# --- installed, found by pkg-config, compiled against

ok_run([ 'make', '-s', '-C', bldtop(), "DESTDIR=$dir/dest", 'install' ], 'make install', { timeout => 600 });
my $prefix = "$dir/dest" . config('TAO_PREFIX');
my @pkgconf = ('pkg-config', "--define-variable=prefix=$prefix");
my $with = { env => { PKG_CONFIG_PATH => join ':', "$prefix/lib/pkgconfig", $ENV{PKG_CONFIG_PATH} // () } };
is(ok_run([ 'pkg-config', '--modversion', 'libtao' ], 'pkg-config', $with)->{out}, config('TAO_VERSION') . "\n",
	'knows the version');
my @flags = split ' ', run(@pkgconf, '--cflags', '--libs', 'libtao', $with)->{out};
chomp(my $libdir = run(@pkgconf, '--variable=libdir', 'libtao', $with)->{out});
my @strict = (qw(-std=c11 -Wall -Wextra -Wpedantic -Werror), config('TAO_ASAN') ? '-fsanitize=address,undefined' : ());

sub compile {
	my ($source, $program) = @_;
	return ok_run([ $cc, @strict, $source, '-o', $program, @flags, "-Wl,-rpath,$libdir" ],
		"compiles against the installed tree: " . $source =~ s{.*/}{}r, { timeout => 120 });
}

for my $header (@headers) {
	spew("$dir/one.c", "#include <tao/$header>\n#include <tao/$header>\nint main(void)\n{\n\treturn 0;\n}\n");
	ok_run([ $cc, @strict, '-c', "$dir/one.c", '-o', "$dir/one.o", grep({ /^-[ID]/ } @flags) ], "<tao/$header> stands alone");
}
spew("$dir/one.c", "#include <tao/tao.h>\nvoid tao_conn_init(void *);\n"
	. "int main(void)\n{\n\ttao_conn_init(0);\n\treturn 0;\n}\n");
my $r = run($cc, "$dir/one.c", '-o', "$dir/one", @flags);
ok($r->{status} != 0 && $r->{err} =~ /tao_conn_init/, 'what is not in the headers cannot be linked');

my ($in_manual) = slurp(srctop() . '/man/libtao.3') =~ /^\.Bd -literal\n(#include.*?)^\.Ed$/ms;
spew("$dir/manual.c", ($in_manual // '') =~ s/\\e/\\/gr);
compile("$dir/manual.c", "$dir/manual");

my $examples = srctop() . '/examples';
compile("$examples/$_.c", "$dir/$_") for qw(statement channel);
# The same program for another key, which makes it another program.
spew("$dir/other.c", slurp("$examples/channel.c") =~ s/"talk"/"talk2"/r);
compile("$dir/other.c", "$dir/other");

# --- the first example

my $host = start_host();
$r = ok_run([ $host->cmd('run', "$dir/statement") ], 'tao run ./statement');
like($r->{out}, qr/^I am key\(\[[0-9a-f]{64}\]\)\..*\.Measured\(/m, 'knows its name');
like($r->{out}, qr/^\d+ bytes sealed, and back: attack at dawn$/m, 'keeps its secret');
like($r->{out}, qr/^\d+ bytes of attestation: the program says Ready\(1\)$/m, 'and makes a statement');
like(ok_run([ $host->cmd('run', "$dir/manual") ], 'the manual\'s example')->{out}, qr/^I am key\(/, 'too');
fails_with([ "$dir/statement" ], qr/^statement: .*tao run/, 'alone, it says what is missing',
	{ env => { TAO_SOCKET => $host->dir . '/run/tao.sock' } });
fails_with([ "$dir/statement" ], qr/^statement: .*tao up/, 'and where there is no host',
	{ env => { TAO_SOCKET => "$dir/none" } });
fails_with([ "$dir/statement" ], qr/^statement: .*absolute path/, 'and a socket that cannot be one',
	{ env => { TAO_SOCKET => 'none' } });

# --- channels

sub prepare {
	my ($host, $program, $key) = @_;
	ok_run([ $host->cmd('trust', $program) ], 'tao trust');
	return ok_run([ $host->cmd(qw(key new), $key, '--for', $program) ], "tao key new $key");
}

sub serve {
	my ($host) = @_;
	my $server = spawn($host->cmd('run', "$dir/channel", 'serve', '0'));
	my $port = $server->wait_for_line(qr/^listening on port (\d+)$/m, 20);
	ok(defined $port, 'a channel is served') or diag($server->log);
	return ($server, $port // 0);
}

prepare($host, "$dir/channel", 'talk');
prepare($host, "$dir/other", 'talk2');
my ($server, $port) = serve($host);
is(ok_run([ $host->cmd('run', "$dir/channel", 'say', $port, 'hello') ], 'its own kind connects')->{out},
	"answer: hello\n", 'and is answered');
ok($server->wait_for_line(qr/^heard: hello$/m, 20), 'having been heard');
fails_with([ $host->cmd('run', "$dir/other", 'say', $port, 'hello') ], qr/^channel: .*another program/,
	'another program refuses to talk to it');
fails_with([ "$dir/channel", 'say', $port, 'hello' ], qr/tao run/, 'outside tao run there is no key',
	{ env => { TAO_SOCKET => $host->dir . '/run/tao.sock' } });
$r = run('openssl', 's_client', '-connect', "127.0.0.1:$port", { stdin => "x\n" });
ok($server->wait_for_line(qr/^refused: 127\.0\.0\.1:\d+ shows no certificate: .*$/m, 10),
	'a client without certificate is refused') or diag($server->log);

# A program of the domain that judges nobody: openssl.
ok_run([ $host->cmd(qw(trust openssl)) ], 'tao trust openssl');
ok_run([ $host->cmd(qw(key new cli --for openssl)) ], 'tao key new for openssl');
$r = run($host->cmd('run', 'openssl', 's_client', qw(-cert tao:cli -key tao:cli -connect), "127.0.0.1:$port",
	{ stdin => "x\n" }));
my $refused = $server->wait_for_line(qr/^(refused: .*another program.*)$/m, 10);
ok(defined $refused, 'another program of the domain is refused') or diag($server->log);
like($refused // '', qr/127\.0\.0\.1:\d+ is key\(.*\.Measured\(.*\.PolicyKey\(.*\): that is another program/,
	'by name');

my $away = start_host();
prepare($away, "$dir/channel", 'talk');
fails_with([ $away->cmd('run', "$dir/channel", 'say', $port, 'hello') ], qr/not a program of this domain/,
	'a program of another domain refuses');
my $conf = slurp($host->dir . '/openssl.cnf') =~ s/^(\[openssl_init\]\n)/$1ssl_conf = ssl\n/mr;
spew("$dir/openssl.cnf", "$conf\n[ssl]\nsystem_default = old\n[old]\nMaxProtocol = TLSv1.2\n");
is(ok_run([ $host->cmd('run', '--openssl-conf', "$dir/openssl.cnf", "$dir/channel", 'say', $port, 'hello') ],
	'what openssl.cnf says of protocols')->{out}, "answer: hello\n", 'is not for channels');
ok_run([ $host->cmd('run', "$dir/channel", 'say', $port, 'again') ], 'the server goes on after all this');
$server->stop;
fails_with([ $host->cmd('run', "$dir/channel", 'say', $port, 'hello') ], qr/cannot be reached: Connection refused/,
	'nobody listens');
$away->down;

# --- every function, under a host

my $calls = slurp(srctop() . '/test/tool/taocalls.c');
compile(srctop() . '/test/tool/taocalls.c', "$dir/calls");
prepare($host, "$dir/calls", 'calls');
mkdir "$dir/own" or die "$dir/own: $!\n";
$r = run($host->cmd('run', '--quiet', '--', "$dir/calls", 'calls', "$dir/own"), { timeout => 300 });
my @not = grep { !/^ok \d/ && !/^1\.\.\d+$/ } split /\n/, $r->{out};
is("@not", '', 'a program calls them all') or diag($r->{err});
my ($planned) = $r->{out} =~ /^1\.\.(\d+)$/m;
is(scalar(() = $r->{out} =~ /^ok /mg), $planned // 'a plan', 'to its end');
is($r->{status}, 0, 'and well');
# What its writers alone need is left to the unit test.
my %inner = map { $_ => 1 } qw(tao_guard_new tao_guard_endorses);
my @uncalled = grep { !$inner{$_} && $calls !~ /\b$_\(/ }
    sort map { declared(slurp(srctop() . "/tao/$_")) } qw(tao.h guard.h channel.h);
is("@uncalled", '', 'none of tao.h, guard.h and channel.h is left out');
my $pages = join '', map { slurp($_) } glob srctop() . '/man/libtao*.3';
my @unnamed = grep { $pages !~ /\b$_\b/ } sort keys %declared;
is("@unnamed", '', 'each function has its place in a manual page');

# --- the commands for scripts; here tao is the program that runs

my $tao = bin('tao');
sub in_run { return ($host->cmd('run', '--', $tao, @_)) }

my $name = ok_run([ in_run('name') ], 'tao name')->{out};
like($name, qr/\Akey\(\[[0-9a-f]{64}\]\)\..*\.Measured\(.*\)\.PolicyKey\(\[[0-9a-f]{64}\]\)\n\z/, 'prints the name');
# Arguments are a part of it: only the name of the same command is the same.
is(ok_run([ in_run('name') ], 'again')->{out}, $name, 'always the same');
like(decode_json(ok_run([ in_run('--json', 'name') ], 'tao --json name')->{out})->{name}, qr/^key\(/, 'or as JSON');
fails_with([ $host->cmd('name') ], qr/^tao name: .*tao run/, 'outside tao run there is none');

my @random = map { ok_run([ in_run('random', '16') ], 'tao random')->{out} } 1, 2;
like($random[0], qr/\A[0-9a-f]{32}\n\z/, 'is hex');
isnt($random[0], $random[1], 'and differs');
is(length ok_run([ in_run('random', '--raw', 300001) ], 'tao random --raw')->{out}, 300001, 'is as many bytes as asked for');
for my $n (0, -1, 16777217, 'x', '', '1 ') {
	is(run($host->cmd('random', $n))->{status}, 2, "tao random '$n' is wrong usage");
}

ok_run([ in_run('attest', '--out', "$dir/att", 'Fine("by me", 3)') ], 'tao attest');
like(ok_run([ in_run('verify', "$dir/att") ], 'tao verify')->{out},
	qr/\Akey\(.*\) from \d+ until \d+ says Fine\("by me", 3\)\n\z/, 'prints the statement');
my ($root) = $name =~ /^(key\(\[[0-9a-f]{64}\]\))/;
my $said = decode_json(ok_run([ $tao, '--json', 'verify', '--trust', $root, "$dir/att" ],
	'tao verify --trust, anywhere')->{out});
is($said->{message}, 'Fine("by me", 3)', 'the message');
is($said->{root}, $root, 'the root');
is($said->{until} - $said->{from}, 365 * 86400 * 1e9, 'a year');
fails_with([ $tao, 'verify', '--trust', 'key([00])', "$dir/att" ], qr/a root that is not trusted here/, 'another root is refused');
fails_with([ $tao, 'verify', '--trust', $root, '--at', $said->{until} + 1, "$dir/att" ], qr/has expired/,
	'and a later time');
my $bytes = slurp("$dir/att");
substr($bytes, length($bytes) / 2, 1) ^= "\1";
spew("$dir/bad", $bytes);
fails_with([ $tao, 'verify', '--trust', $root, "$dir/bad" ], qr/signature does not verify|not a public key|malformed/, 'and an altered one');
fails_with([ in_run('attest', '--issuer', 'key([00])', 'Fine(1)') ], qr/itself or as one of its subprincipals/,
	'nobody attests for another');
fails_with([ in_run('attest', 'Fine(') ], qr/^tao attest: \S/, 'nor what is no formula');
$r = ok_run([ in_run('attest', '--from', '1000', '--until', '2000', 'Fine(1)') ], 'tao attest --from --until');
spew("$dir/old", $r->{out});
like(ok_run([ $tao, 'verify', '--trust', $root, '--at', 1500, "$dir/old" ], 'holds then')->{out},
	qr/from 1000 until 2000 says Fine\(1\)$/, 'and says when');
fails_with([ $tao, 'verify', '--trust', $root, "$dir/old" ], qr/has expired/, 'not now');

my $data = "a secret\0of bytes\n" x 1000;
for my $policy (qw(program host few any)) {
	my $blob = ok_run([ in_run('seal', '--policy', $policy) ], "tao seal --policy $policy", { stdin => $data })->{out};
	unlike($blob, qr/a secret/, 'hides the data');
	spew("$dir/blob", $blob);
	is(ok_run([ in_run('unseal', "$dir/blob") ], 'tao unseal')->{out}, $data, 'gives it back');
	is(ok_run([ in_run('unseal', '--show-policy', "$dir/blob") ], 'tao unseal --show-policy')->{out}, "$policy\n",
		'and knows the policy');
}
spew("$dir/blob", ok_run([ in_run('seal') ], 'tao seal', { stdin => $data })->{out});
fails_with([ in_run('unseal', "$dir/blob") ], qr/another program/, 'for exactly one name, arguments included');
fails_with([ in_run('seal', '--policy', 'everyone') ], qr/policy/, 'an unknown policy', { stdin => 'x' });
fails_with([ in_run('unseal') ], qr/^tao unseal: \S/, 'what was not sealed', { stdin => 'no blob' });
my $big = 'x' x 1000000;
spew("$dir/big", ok_run([ in_run('seal', '--policy', 'program') ], 'a million bytes', { stdin => $big })->{out});
is(ok_run([ in_run('unseal', "$dir/big") ], 'come back')->{out}, $big, 'as they were');
fails_with([ in_run('seal', '--policy', 'program') ], qr/1000000/, 'one more is too much', { stdin => "${big}x" });

my @protect = ('protect', '--policy', 'program', '--key', "$dir/key");
$data = join '', map { pack 'N', $_ } 1 .. 1_000_000;
ok_run([ in_run(@protect, '--out', "$dir/safe") ], 'tao protect', { stdin => $data });
ok(-s "$dir/key", 'makes a key');
is((stat "$dir/safe")[2] & 0777, 0600, 'its output is this user\'s');
is(-s "$dir/safe", length($data) + 80, 'and hardly longer');
my $key = slurp("$dir/key");
is(ok_run([ in_run(@protect, '--undo', "$dir/safe") ], 'tao protect --undo')->{out}, $data, 'gives the data back');
isnt(ok_run([ in_run(@protect) ], 'again', { stdin => $data })->{out}, slurp("$dir/safe"), 'is never the same');
is(slurp("$dir/key"), $key, 'though the key is');
$bytes = slurp("$dir/safe");
substr($bytes, 100, 1) ^= "\1";
spew("$dir/safe", $bytes);
fails_with([ in_run(@protect, '--undo', "$dir/safe") ], qr/altered|another key/, 'what was altered is refused');
fails_with([ in_run(qw(protect --undo --key), "$dir/nokey", "$dir/safe") ], qr/nokey/, 'no key is made to undo');
ok(!-e "$dir/nokey", 'indeed');
is(run($tao, 'protect')->{status}, 2, 'tao protect without a key is wrong usage');

ok_run([ in_run('extend', '.Worker(3)') ], 'tao extend');
ok_run([ in_run('extend', 'Worker(3)') ], 'without the dot');
fails_with([ in_run('extend', '.Program([00])') ], qr/only a host/, 'the words of hosts are refused');
fails_with([ in_run('extend', '.worker') ], qr/^tao extend: \S/, 'and what is no extension');

$r = run(in_run('secret', '--policy', 'program', 32));
is($r->{status}, 0, 'tao secret');
like($r->{out}, qr/\A[0-9a-f]{64}\n\z/, 'prints hex');
is(ok_run([ in_run('secret', '--policy', 'program', 32) ], 'tao secret')->{out}, $r->{out}, 'the same again');

done_testing();
