# What the other recipes rely on: commands are run, refused, timed out and
# stopped as test/lib/TaoTest.pm says.
use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use TaoTest;
use Time::HiRes qw(time);

my $r = run('sh', '-c', 'cat; echo oops >&2; exit 7', { stdin => "in\n" });
is_deeply([ @$r{qw(status out err)} ], [ 7, "in\n", "oops\n" ], 'status and streams');
is(run('sh', '-c', 'kill -9 $$')->{status}, 137, 'a signal shows in the status');
is(run('/nonexistent/program')->{status}, 127, 'a program that is not there');
is(run('sh', '-c', 'echo $A$B', { env => { A => 'a', B => undef } })->{out}, "a\n", 'environment');
$r = run('sleep', 60, { timeout => 0.2 });
ok($r->{timeout} && $r->{status} == 124, 'a time limit');

my $p = spawn('sh', '-c', 'echo ready 42; exec sleep 60');
is($p->wait_for_line(qr/^ready (\d+)$/, 10), 42, 'a line that was waited for');
ok($p->alive, 'the process runs');
is($p->stop, 143, 'until it is stopped');
ok(!$p->alive && !kill(0, $p->pid), 'then it is gone');
$p = spawn('sh', '-c', 'exit 3');
is($p->wait_for_line(qr/never/, 10), undef, 'no line from one that ended');
is($p->wait(10), 3, 'its status');

# Seconds are longer while others want the processors.
my $processors = () = slurp('/proc/stat') =~ /^cpu\d/mg;
my @busy = map { spawn($^X, '-e', '$| = 1; print "busy\n"; 1 while 1') } 1 .. 4 * $processors;
$_->wait_for_line(qr/busy/, 20) for @busy;
my $from = time;
ok(!wait_for(sub { 0 }, 0.5), 'what does not come is not waited for for ever');
cmp_ok(time - $from, '>', 1, 'but longer while others want the processors');
$_->stop('KILL') for @busy;

# A recipe that dies, or that nobody listens to any more, leaves neither process nor directory.
for my $end ([ 'die "on purpose\n"', '' ], [ 'print "more\n" while 1', '| head -n 1' ]) {
	my ($how, $reader) = @$end;
	my $script = spew(tmpdir() . '/dies.pl', <<"SCRIPT");
use TaoTest;
use Test::More;
\$| = 1;
my \$p = spawn('sleep', 60);
print \$p->pid, " ", tmpdir(), "\\n";
$how;
SCRIPT
	$r = run('bash', '-c', qq(set -o pipefail; "\$0" "\$1" $reader), $^X, $script, { env => { TAO_KEEP => undef } });
	my ($pid, $dir) = split ' ', $r->{out};
	ok($r->{status} != 0, "a recipe ends: $how") or diag($r->{err});
	ok(!kill(0, $pid), 'its process is stopped');
	ok(!-e $dir, 'its directory is removed');
}

my $port = free_port();
my %address = (LocalAddr => '127.0.0.1', LocalPort => $port);
ok(IO::Socket::INET->new(Listen => 1, ReuseAddr => 1, %address), 'a free port');
my ($low) = slurp('/proc/sys/net/ipv4/ip_local_port_range') =~ /^(\d+)/;
SKIP: {
	skip 'the kernel takes nearly any port for connections here', 1 if $low < 20000;
	cmp_ok($port, '<', $low, 'which the kernel gives to no connection');
}
like(slurp('/proc/net/unix'), qr/\@tao-test-port-$port$/m, 'nor we to another recipe');
is(config('TAO_PREFIX') =~ m{^/}, 1, 'config.h is read');
my $text = slurp(srctop() . '/LICENSE');
is(slurp(spew(tmpdir() . '/copy', $text)), $text, 'files are read and written whole');

done_testing();
