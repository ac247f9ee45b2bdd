# Attacks on the question who is calling. Each is made by a program that runs
# under a host, or beside one. What is attacked elsewhere:
#
#   connect, fork, execute; a connection used by somebody else     31-host.t, "the challenge"
#   a request sent just before execve()                            31-host.t, "the challenge" (provewith)
#   the door used by another program                               here, and 31-host.t, "instances"
#   a process number used again                                    here; t_registry.c, "descent"
#   swapped executable, interpreter, library                       here; t_measure.c
#   LD_PRELOAD, LD_LIBRARY_PATH of who calls tao run               30-run.t, "its environment"
#   LD_PRELOAD, OPENSSL_CONF of who starts a program inside        here
#   user-writable files, FUSE                                      here; t_measure.c
#   a script that changes                                          here
#   ExtendTaoName with a word of the host                          31-host.t, "names"
#   another user with the same binary                              here, and 31-host.t, "other users"
#   descriptor numbers used again by a daemon                      t_pool.c
use strict;
use warnings;

use File::Copy qw(copy);
use JSON::PP;
use Test::More;
use TaoRaw qw(call field);
use TaoTest;

use constant { ENOTRUN => 15, EWRONGPROG => 18, EDENIED => 9 };
my $NOBODY = 65534;

my $dir = tmpdir();
my $host = start_host();
my $socket = $host->dir . '/run/tao.sock';
my $raw = tool('rawclient');

sub lines { return split /\n/, $_[0]{out} }

# The answers of rawclient under tao run, fed these commands; with {by}, under that host.
sub hosted {
	my %opt = ref $_[-1] eq 'HASH' ? %{ pop @_ } : ();
	my $by = $opt{by} // $host;
	my $r = run($by->cmd('run', '--quiet', '--', @{ $opt{cmd} // [ $raw, $by->dir . '/run/tao.sock' ] }),
		{ stdin => join("\n", @_) . "\n", timeout => 60 });
	diag($r->{err}) if $r->{status} != 0;
	return lines($r);
}

sub bytes { return run($raw, '-', { stdin => join("\n", @_) . "\n" })->{out} =~ s/\s+\z//r }

# The name in the answer to Tao.Prove, or the error: "NUMBER SENTENCE".
sub name {
	my ($line) = @_;
	return 'nothing' if !defined $line;
	return $1 if $line =~ /^err \S+ (.*)/;
	my ($hex) = $line =~ /^ok Tao\.Prove 0a(\w+)$/ or return $line;
	my $p = pack 'H*', $hex;
	1 while ord(substr $p, 0, 1, '') & 0x80; # its length
	return bytes('decode ' . unpack 'H*', $p);
}
sub refused {
	my ($line, $why, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like(name($line), $why, $what);
}

# A program of its own, that only root or this user can change.
sub program {
	my ($name) = @_;
	copy($raw, "$dir/$name") or die "$dir/$name: $!";
	chmod 0755, "$dir/$name";
	return "$dir/$name";
}
my $other = program('other');
my @whoami = ('connect', 'identify');

# --- another program inside

my $own = name((hosted(@whoami))[-1]);
like($own, qr/\.Measured\(\[\w+\], \[\w+\], $<\)\.PolicyKey/, 'a program has its name');
my $want = name((hosted(@whoami, { cmd => [ $other, $socket ] }))[-1]);
isnt($want, $own, 'another one another');
is(name((hosted("exec $other $socket", @whoami))[-1]), $want,
	'executed inside the first it has the one that tao run gives it');
is(name((hosted("exec $other $socket", 'door', 'identify'))[-1]), $want, 'through the door, too');
is(name((hosted("fork exec $other $socket connect identify"))[-1]),
	name((hosted({ cmd => [ $other, $socket, @whoami ] }))[-1]), 'as a child as well');
my @l = hosted("exec $other $socket", @whoami, 'fork connect; identify', 'connect', 'identify');
is(name($_), $want, 'its forks and its other connections are it') for @l[ 3, -1 ];
is(name((hosted("exec $other $socket", @whoami, "exec $raw $socket", @whoami))[-1]), $own,
	'the first, executed again, is the first');

# --- what its caller can do to it

sub env_exec { return ("exec /usr/bin/env @_ $other $socket", @whoami) }
refused((hosted(env_exec("$_=/x")))[-1], qr/^15 .*\b$_\b/, "started with $_ it gets no name")
    for qw(LD_LIBRARY_PATH LD_AUDIT GLIBC_TUNABLES OPENSSL_MODULES OPENSSL_ENGINES);
# A build with sanitizers starts only with its runtime in front.
my $preload = 'LD_PRELOAD=' . join ':', map { $_ // () } preload_env()->{LD_PRELOAD}, 'libz.so.1';
refused((hosted(env_exec($preload)))[-1], qr/^15 .*LD_PRELOAD/, 'nor with LD_PRELOAD');
is(name((hosted(env_exec('GREETING=hello')))[-1]), $want, 'what else is in its environment does not matter');
is(name((hosted(env_exec('-u', 'OPENSSL_CONF')))[-1]), $want, 'without OPENSSL_CONF it is the host\'s');
spew("$dir/conf", "openssl_conf = x\n");
chmod 0644, "$dir/conf";
my $conf = name((hosted(env_exec("OPENSSL_CONF=$dir/conf")))[-1]);
isnt($conf, $want, 'another OPENSSL_CONF is in the name');
like($conf, qr/\.Measured\(/, 'if only root or the host\'s user can change it');
chmod 0666, "$dir/conf";
refused((hosted(env_exec("OPENSSL_CONF=$dir/conf")))[-1], qr/^15 .*conf can be written/, 'else there is none');
refused((hosted(env_exec('OPENSSL_CONF=conf')))[-1], qr/^15 .*OPENSSL_CONF of .* is not an absolute path/, 'nor with a relative one');
refused((hosted("exec $other $socket traced", @whoami))[-1], qr/^15 .*traced/, 'nor when it is traced');

my $python = program('python3');
like(name((hosted("exec $python $socket", @whoami))[-1]), qr/\.Measured\(/, 'an interpreter inside has a name');
refused((hosted("exec /usr/bin/env PYTHONPATH=/x $python $socket", @whoami))[-1],
	qr/^15 .*is an interpreter and was started with PYTHONPATH=\/x/, 'but not with an environment that says what it loads');

my $open = program('open');
chmod 0777, $open;
refused((hosted("exec $open $socket", @whoami))[-1], qr/^15 .*\bopen\b/, 'nor what others can write');
my $gone = program('gone');
refused((hosted("exec $gone $socket", "unlink $gone", @whoami))[-1], qr/^15 /, 'nor what is not there any more');
my ($old, $new) = (program('old'), program('new'));
refused((hosted("exec $old $socket", "rename $new $old", @whoami))[-1], qr/^15 /, 'nor what was exchanged');
my $code = program('code');
is(name((hosted("exec $other $socket", "mapcode $code", @whoami))[-1]), $want,
	'code may be loaded of a file that others cannot change');
my ($lib, $swapped) = (program('lib'), program('swapped'));
refused((hosted("exec $other $socket", "mapcode $lib", "rename $swapped $lib", @whoami))[-1],
	qr/^15 .*lib\b/, 'but not exchanged afterwards');
# Of a file that is gone the kernel tells the name with "(deleted)" behind it.
my ($mine, $later) = (program('mine'), program('later'));
program('mine (deleted)');
refused((hosted("exec $other $socket", "mapcode $mine", "rename $later $mine", @whoami))[-1],
	qr/^15 .*mine \(deleted\) is another file than the process has loaded/, 'nor with a file there that has such a name');
refused((hosted("exec $other $socket", "mapcode $open", @whoami))[-1], qr/^15 .*open\b/, 'nor writable');
SKIP: {
	skip 'FUSE: /dev/fuse is not there', 2 if !-e '/dev/fuse';
	skip 'FUSE: nothing here mounts one (bindfs)', 2 if !grep { -x "$_/bindfs" } split /:/, $ENV{PATH};
	mkdir "$dir/fuse";
	skip 'FUSE: it cannot be mounted here', 2 if run('bindfs', $dir, "$dir/fuse")->{status} != 0;
	refused((hosted("exec $dir/fuse/other $socket", @whoami))[-1], qr/^15 /, 'a program on a FUSE file system');
	fails_with([ $host->cmd('run', "$dir/fuse/other") ], qr/FUSE/, 'nor is it registered');
	run('umount', "$dir/fuse");
}

# --- scripts

my $tao = bin('tao');
sub script {
	my ($file, $text) = @_;
	spew("$dir/$file", $text);
	chmod 0755, "$dir/$file";
	return "$dir/$file";
}
sub told { my $r = $host->tao('run', '--quiet', '--', @_); return $r->{out} =~ s/\s+\z//r || $r->{err} }
my $b = script('b.sh', "exec 9<&0; $tao name\n");
my $a = script('a.sh', "exec sh $b\n");
my $name_b = told('sh', $b);
like($name_b, qr/\.Measured\(/, 'a script asks its name');
is(told('sh', '-c', "$tao name; (($tao name)); sh -c true; $tao name") =~ s/\n.*//sr,
	told('sh', '-c', "$tao name; (($tao name)); sh -c true; $tao name") =~ s/.*\n//sr, 'which stays');
like(told('sh', $a), qr/another executable/, 'a script that a script becomes is not it');
like(told('sh', '-c', "sh $b; true"), qr/another executable/, 'nor is one that it starts');
my $named = name((hosted({ cmd => [ 'sh', '-c', "exec sh -c 'exec $other $socket connect identify'" ] }))[-1]);
is($named, name((hosted({ cmd => [ $other, $socket, @whoami ] }))[-1]), 'a program in the place of a script has its own name');

my $hash = script('hash', "#!/bin/sh\n$tao name\n");
my $first = told($hash);
like($first, qr/\.Measured\(/, 'a #! script asks its name');
is(told($hash), $first, 'which is the same again');
script('hash', "#!/bin/sh\n: other; $tao name\n");
my $second = told($hash);
like($second, qr/\.Measured\(/, 'changed, it has a name');
isnt($second, $first, 'another one');
SKIP: {
	skip 'python3 is not there', 4 if !-x '/usr/bin/python3';
	my $py = script('script.py', "import subprocess\nsubprocess.run(['$tao', 'name'])\n");
	my @cmd = ('run', '--quiet', '--config', $py, '--', '/usr/bin/python3', $py);
	my $before = $host->tao(@cmd)->{out};
	like($before, qr/\.Measured\(/, 'python3 script.py with --config script.py');
	is($host->tao(@cmd)->{out}, $before, 'has one name');
	script('script.py', "import subprocess # other\nsubprocess.run(['$tao', 'name'])\n");
	my $after = $host->tao(@cmd)->{out};
	like($after, qr/\.Measured\(/, 'the script changed, it has a name');
	isnt($after, $before, 'another one');
}

# --- a process number used again

SKIP: {
	my ($l) = (hosted('reuse prove'))[-1];
	skip 'a number used again: only root can choose it', 1 if $l eq 'no number';
	refused($l, qr/^15 /, 'who has the number of a process that said hello is not that process');
}

# --- another user

SKIP: {
	skip 'another user: only root can be one', 11 if $<;
	skip 'another user: setpriv is not there', 11 if !-x '/usr/bin/setpriv';
	skip 'another user: it cannot reach the build tree', 11
	    if run('setpriv', "--reuid=$NOBODY", '--clear-groups', 'test', '-x', $raw)->{status} != 0;
	my $as = "/usr/bin/setpriv --reuid=$NOBODY --clear-groups";
	is(name((hosted("exec $as $other $socket", @whoami))[-1]), $want =~ s/, 0\)\.Policy/, $NOBODY).Policy/r,
		'executed as another user, it is that user\'s');
	# Who executes a file with what he likes in its environment is not its instance.
	my $theirs = $own =~ s/, 0\)\.Policy/, $NOBODY).Policy/r;
	is(name((hosted("exec $as $raw $socket", @whoami))[-1]), $theirs, 'so is the same program');
	is(name((hosted("exec $as $raw $socket", 'door', 'identify'))[-1]), $theirs, 'through the door, too');
	is(name((hosted("fork exec $as $raw $socket connect identify"))[-1]),
		name((hosted({ cmd => [ $raw, $socket, @whoami ] }))[-1]) =~ s/, 0\)\.Policy/, $NOBODY).Policy/r,
		'and as a child');
	refused((hosted("exec $as /usr/bin/env $preload $raw $socket", @whoami))[-1],
		qr/^15 .*LD_PRELOAD/, 'which with LD_PRELOAD is nobody');
	is(name((hosted("setuid $NOBODY", @whoami))[-1]), $own, 'one that gives up its rights itself stays the instance');
	is(name((hosted("fork setuid $NOBODY; connect; identify"))[-1]), $own, 'so does its child');
	# That an orphan became the child of a process of the instance says nothing.
	like(told($raw, $socket, "orphan 0 $tao name"), qr/\.Measured\(/, 'tao of the same user speaks for its parent');
	like(told($raw, $socket, "orphan $NOBODY $tao name"), qr/another user's/, 'of another user it does not');
	is(run('setpriv', "--reuid=$NOBODY", '--clear-groups', $raw, $socket, @whoami)->{out} =~ /Prove (\d+)/ && $1,
		ENOTRUN, 'another user\'s beside it is nobody');
}

# --- admit = connected

my $open_host = start_host(dir => "$dir/admits");
$open_host->down;
my $its_conf = "$dir/admits/taod.conf";
spew($its_conf, (-e $its_conf ? slurp($its_conf) : '') . "admit = perhaps\n");
fails_with([ $open_host->cmd('up', '--passphrase-file', $open_host->passfile) ], qr/admit = perhaps: give none or connected/,
	'admit is none or connected');
spew($its_conf, slurp($its_conf) =~ s/perhaps/connected/r);
ok_run([ $open_host->cmd('up', '--passphrase-file', $open_host->passfile) ], 'a host that admits what connects');
my $there = $open_host->dir . '/run/tao.sock';
sub beside { return lines(run($raw, $there, { stdin => join("\n", @_) . "\n" })) }
my ($sum) = run('sha256sum', $raw)->{out} =~ /^(\w+)/;
my $process = qr/^key\(\[\w+\]\)\.DatalogGuard\(key\(\[(\w+)\]\)\)\.Process\(\[$sum\], $<, "[^"]*"\)\.PolicyKey\(\[\1\]\)$/;
like(name((beside(@whoami))[-1]), $process, 'a program beside tao run is a Process');
@l = beside(@whoami, 'use 1', @whoami, 'fork connect; identify', 'sleep 50');
like(name($l[1]), $process, 'so is its other connection');
sub ps { return @{ decode_json($open_host->tao(qw(--json ps))->{out}) } }
ok(wait_for(sub { return !ps() }), 'it ends with its process');
{
	my $p = spawn('sh', '-c', "(echo connect; echo identify; echo use 1; echo connect; echo identify; " .
		"echo 'fork connect; identify'; echo echo up; sleep 30) | exec $raw $there");
	ok($p->wait_for_line(qr/^up$/m, 20), 'one with several connections') or diag($p->log);
	is(scalar(ps()), 1, 'is one instance');
	kill 'KILL', -$p->pid;
	$p->stop('KILL');
	ok(wait_for(sub { return !ps() }), 'until it is killed');
}
sub generates { my ($policy) = @_; return (beside(@whoami, call('Tao.GenerateKey', field(1, "k$policy"), field(5, $policy))))[-1] }
like(generates('program'), qr/^err \S+ ${\EWRONGPROG} .*tao run/, 'it makes no key for its program');
like(generates($_), qr/^ok/, "but one with policy $_") for qw(exact host);
ok_run([ $open_host->cmd('key', 'new', 'mine', '--for', $raw) ], 'a key for that program');
like((beside(@whoami, call('Tao.GetKey', field(1, 'mine'))))[-1], qr/^err \S+ ${\EWRONGPROG} .*tao run/,
	'is not for a Process');
like((hosted(@whoami, call('Tao.GetKey', field(1, 'mine')), { by => $open_host }))[-1], qr/^ok/,
	'but for one that tao run started');
ok_run([ $open_host->cmd('trust', $raw) ], 'tao trust');
like((beside(@whoami, call('Tao.GetCertificate', field(1, 'kexact'))))[-1], qr/^err \S+ ${\EDENIED} .*TrustedProgram\(key/,
	'does not give a Process certificates');
my ($domain) = name((beside(@whoami))[-1]) =~ $process;
ok_run([ $open_host->cmd('policy', 'add', "TrustedProgram(key([$domain]).Process(_, $<, _))") ], 'a rule that names it');
like((beside(@whoami, call('Tao.GetCertificate', field(1, 'kexact'))))[-1], qr/^ok/, 'does');
like(name((hosted("exec /usr/bin/env $preload $other $there", @whoami, { by => $open_host }))[-1]),
	qr/\.Process\(/, 'what cannot be measured inside a program is a Process');
like(name((hosted("exec $other $there", @whoami, { by => $open_host }))[-1]), qr/\.Measured\(/, 'what can is not');

# --- nothing is left

for my $h ($host, $open_host) {
	ok(wait_for(sub { return !@{ decode_json($h->tao(qw(--json ps))->{out}) } }), 'no instance is left');
	$h->down;
	unlike(slurp($h->dir . '/taod.log'), qr/Sanitizer|runtime error/, 'nor complaints');
}

done_testing();
