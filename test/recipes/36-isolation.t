# What a process of the same user may do to a hosted program, and to the keeper: on a system's host,
# neither read its memory, nor trace it, nor have its core.
use strict;
use warnings;

use Test::More;
use TaoTest;

my $NOBODY = 65534;
my $san = config('TAO_ASAN');
my $refused = qr/^(?:Operation not permitted|Permission denied)$/;
my $host = start_host();
my $conf = $host->dir . '/openssl.cnf';

if ($> != 0) {
	like(slurp($conf), qr/^undumpable = no$/m, "an ordinary user's host leaves its programs alone");
	like($host->tao('status')->{out}, qr/development/, 'and says what it is for');
	ok_run([ $host->cmd('key', 'new', 'mine', '--for', tool('redump')) ], 'a key');
	is(ok_run([ $host->cmd('run', '--quiet', '--', tool('redump')), 'tao:mine' ], 'used')->{out},
		"loaded 1\nchild 1\nsigned 1\n", 'its program stays dumpable');
	done_testing();
	exit 0;
}

my $dir = tmpdir() . '/nobody';
mkdir $dir;
chmod 0777, $dir;
my @nobody = ('setpriv', "--reuid=$NOBODY", "--regid=$NOBODY", '--clear-groups');
plan(skip_all => 'another user cannot execute programs of the build tree')
    if run(@nobody, 'test', '-x', tool('peek'))->{status} != 0;

# What came of each way to look into it.
sub peek {
	my ($pid, @as) = @_;
	return { ok_run([ @as, tool('peek'), $pid ], 'a look')->{out} =~ /^(\S+) (.*)$/mg };
}

# A program of user nobody that has loaded the provider and goes on.
my $n = 0;
sub server {
	my ($how, %env) = @_;
	my $sock = "s" . $n++; # in the directory: s_server takes no path of 32 bytes
	my $p = spawn(@nobody, @$how, 'openssl', 's_server', '-nocert', '-unix', $sock, { env => \%env, dir => $dir });
	$p->wait_for_line(qr/ACCEPT/, 20) or diag($p->log);
	return $p;
}

sub ways { my ($r) = @_; return grep { $r->{$_} eq 'done' } sort keys %$r }

like(slurp($conf), qr/^undumpable = yes$/m, "a system's host makes its programs undumpable");

my @hosted = ($host->cmd('run', '--quiet', '--'));
my $outside = server([], OPENSSL_CONF => $conf, %{ preload_env()->{env} // preload_env() });
my $control = peek($outside->pid, @nobody);
my @ways = ways($control);
cmp_ok(scalar(@ways), '>=', 3, "outside tao run nothing is changed: @ways");
$outside->stop;

my $inside = server(\@hosted);
my $got = peek($inside->pid, @nobody);
like($got->{$_}, $refused, "a hosted program: $_") for @ways;
$inside->stop;

# --- a core

sub dumps_core {
	my (@how) = @_;
	my $sock = "s" . $n++;
	my @cmd = ('sh', '-c', 'ulimit -c unlimited && exec "$@"', 'sh', @nobody, @how, 'openssl', 's_server', '-nocert',
		'-unix', $sock);
	my $pid = fork // die;
	if ($pid == 0) {
		chdir $dir;
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		no warnings "exec";
		exec { $cmd[0] } @cmd;
		POSIX::_exit(127);
	}
	my $up = wait_for(sub { -S "$dir/$sock" || waitpid($pid, POSIX::WNOHANG()) }, 20);
	kill 'ABRT', $pid;
	waitpid $pid, 0;
	my ($signal, $core) = ($? & 127, ($? & 128) != 0);
	unlink glob "$dir/core*";
	is($signal, 6, 'a program that aborts');
	return $core;
}

use POSIX ();
SKIP: {
	skip 'the sanitizer handles what ends a program', 4 if $san;
	my $able = do { local $ENV{OPENSSL_CONF} = $conf; dumps_core() };
	skip 'no cores are written here, with or without the Tao', 3 if !$able;
	ok($able, 'outside tao run leaves a core');
	ok(!dumps_core(@hosted), 'a hosted one does not');
}

# --- children

ok_run([ $host->cmd('key', 'new', 'web', '--for', tool('redump')) ], 'a key');
is(ok_run([ @hosted, tool('redump'), 'tao:web' ], 'used')->{out}, "loaded 0\nchild 1\nsigned 0\n",
	'a child that makes itself dumpable is undumpable again with its first request');
is(ok_run([ @hosted, tool('redump'), 'tao:web' ], 'as another configuration', { env => { OPENSSL_CONF => '/dev/null' } })->{out},
	"loaded 0\nchild 1\nsigned 0\n", "the caller's OPENSSL_CONF changes nothing");
my $r = ok_run([ @hosted, 'sh', '-c', 'openssl version >/dev/null; stat -c %u /proc/$$/environ; exec stat -c %u /proc/self/environ' ],
	'programs without OpenSSL');
is($r->{out}, "0\n0\n", 'are as they were');

# /dev/stdout is a link below /proc/self, whose files now belong to root.
is(length ok_run([ @nobody, 'sh', '-c', '"$@" | cat', 'sh', @hosted, qw(openssl rand -out /dev/stdout 12) ],
	'another user\'s program opens /dev/stdout')->{out}, 12, 'and writes to it');

# --- the keeper, for a process of its own user without capabilities

my @bare = qw(setpriv --bounding-set=-all --inh-caps=-all);
my $sleep = spawn(@bare, 'sleep', 100);
wait_for(sub { slurp('/proc/' . $sleep->pid . '/comm') =~ /^sleep/ }, 10);
$control = peek($sleep->pid, @bare);
@ways = ways($control);
cmp_ok(scalar(@ways), '>=', 3, "another process of its user: @ways");
my ($keeper) = slurp($host->dir . '/run/taod.pid') =~ /(\d+)/;
$got = peek($keeper, @bare);
like($got->{$_}, $refused, "the keeper: $_") for @ways;
$sleep->stop;

# --- if the administrator wants it otherwise

$host->down;
spew($host->dir . '/taod.conf', "undumpable = no\n");
$host->{up} = 1;
ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], 'undumpable = no in taod.conf');
is(ok_run([ @hosted, tool('redump'), 'tao:web' ], 'used')->{out}, "loaded 1\nchild 1\nsigned 1\n", 'leaves programs alone');

done_testing();
