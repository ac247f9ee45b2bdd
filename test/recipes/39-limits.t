# Limits of programs and users at their boundaries, on a real host; and that a
# greedy program takes nobody else's turn. Fairness is measured by progress: what
# the greedy one got while an honest one got its answers, however long that took.
use strict;
use warnings;

use IO::Socket::UNIX;
use JSON::PP;
use Test::More;
use TaoRaw qw(field hex_of);
use TaoTest;

use constant ELIMIT => 4;

my $raw = tool('rawclient');
my $greedy = tool('greedy');
my $dir = tmpdir();

# A host with these lines in its taod.conf.
sub host_with {
	my (%keys) = @_;
	return start_host(conf => join '', map { "$_ = $keys{$_}\n" } sort keys %keys);
}

sub hosted {
	my ($host, @commands) = @_;
	my $r = run($host->cmd('run', '--quiet', '--', $raw), $host->dir . '/run/tao.sock',
		{ stdin => join("\n", @commands) . "\n", timeout => 120 });
	return split /\n/, $r->{out};
}

sub plain {
	my ($host, @commands) = @_;
	return split /\n/, run($raw, $host->dir . '/run/tao.sock',
		{ stdin => join("\n", @commands) . "\n" })->{out};
}

sub refused {
	my ($line, $key, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($line // 'nothing', qr/^err \S+ @{[ELIMIT]} .*raise $key in taod\.conf/, $name);
}

# --- instances

my $host = host_with(max_instances => 3, max_instances_per_user => 2, max_keys => 2,
	max_keys_per_program => 1, max_rate_per_program => 5, max_request => 5000,
	max_connections_per_program => 6, max_unnamed_per_user => 12);
my @sleepers;
sub sleeper {
	my $p = spawn($host->cmd('run', '--quiet', '--', '/bin/sleep', '1000'));
	push @sleepers, $p;
	return $p;
}
sub instances { return scalar @{ decode_json($host->tao(qw(--json ps))->{out}) } }
sleeper() for 1 .. 2;
ok(wait_for(sub { instances() == 2 }), 'max_instances_per_user = 2: two programs run');
fails_with([ $host->cmd('run', '/bin/true') ], qr/user \d+ has 2 programs running already.*raise max_instances_per_user in taod\.conf/s,
	'a third one does not');
(shift @sleepers)->stop('KILL');
ok(wait_for(sub { instances() == 1 }), 'one ends');
ok_run([ $host->cmd('run', '/bin/true') ], 'then another may start');
SKIP: {
	skip 'needs root: several users', 3 if $> != 0;
	my @as = ('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups');
	wait_for(sub { instances() == 1 });
	sleeper();
	push @sleepers, spawn(@as, $host->cmd('run', '--quiet', '--', '/bin/sleep', '1000'));
	ok(wait_for(sub { instances() == 3 }), 'max_instances = 3: another user is not held up by the first');
	fails_with([ @as, $host->cmd('run', '/bin/true') ], qr/the host has 3 programs running already.*raise max_instances in taod\.conf/s,
		'but by the limit of all');
	$_->stop('KILL') for splice @sleepers, 1;
	ok(wait_for(sub { instances() == 1 }), 'they end');
}
$_->stop('KILL') for splice @sleepers;
wait_for(sub { instances() == 0 });

# --- keys, connections, sizes, rates

my $new_key = sub { 'call Tao.GenerateKey ' . hex_of(field(1, $_[0])) };
my @l = hosted($host, 'door', 'identify', $new_key->('one'), $new_key->('two'), $new_key->('one'));
like($l[-3], qr/^ok Tao\.GenerateKey/, 'max_keys_per_program = 1: a program makes a key') or diag(@l);
refused($l[-2], 'max_keys_per_program', 'not a second one');
@l = hosted($host, 'door', 'identify', $new_key->('one'), $new_key->('two'));
like($l[-2], qr/^err \S+ 5|^err \S+ 8/, 'a key that is there already') or diag(@l);
like($l[-1], qr/^ok Tao\.GenerateKey/, 'a failure is not counted') or diag(@l);
@l = hosted($host, 'door', 'identify', $new_key->('three'));
refused($l[-1], 'max_keys', 'max_keys = 2: no third one for the user');
like((hosted($host, 'opendoor 20'))[-1], qr/^6 open$/, 'max_connections_per_program = 6: six stay');
@l = split / /, (plain($host, 'open 20'))[-1];
ok($l[0] <= 12 && $l[0] >= 9, 'max_unnamed_per_user = 12') or diag(@l);
wait_for(sub { $host->tao('status')->{status} == 0 });
my @idle = map { IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $host->dir . '/run/tao.sock') } 1 .. 12;
fails_with([ $host->cmd('ps') ], qr/closed the connection: .*\(max_unnamed_per_user in taod\.conf\)/, 'the same user\'s tao is told what it may be');
close $_ for grep { defined } @idle;
wait_for(sub { $host->tao('status')->{status} == 0 });
@l = hosted($host, 'door', 'identify', 'call Tao.GetRandomBytes ff*4096', 'call Tao.Seal ff*5000', 'call Tao.Seal ff*5001');
unlike($l[-2], qr/max_request/, 'max_request = 5000: a request of that size is looked at');
refused($l[-1], 'max_request', 'one byte more is not');
# Exact boundaries are test/unit/t_limit.c's: a slow machine gets a few more of so many.
@l = hosted($host, 'door', 'identify', ('call Tao.Attest -') x 60, 'call Tao.GetTaoName -');
is(scalar(grep { /max_rate_per_program/ } @l[0 .. $#l - 56]), 0, 'max_rate_per_program = 5: five costly operations')
    or diag(@l);
ok((grep { /max_rate_per_program/ } @l) >= 1, 'more at once are too many') or diag(@l);
like($l[-1], qr/^ok/, 'a cheap one is not counted');
$host->down;

$host = host_with(max_memory_per_user => 1 << 20, max_rate_per_user => 3, max_connections_per_user => 40);
@l = hosted($host, 'door', 'identify', 'use 1', 'door', 'identify',
	'raw ' . hex_of(pack('N', 12) . field(1, 'Tao.Seal') . "\x10\x01") . '000f0000' . 'ff*700000', 'sleep 300',
	'use 2', 'door', 'identify',
	'raw ' . hex_of(pack('N', 12) . field(1, 'Tao.Seal') . "\x10\x01") . '000f0000' . 'ff*700000', 'recv',
	'use 0', 'call Tao.GetTaoName -');
is((grep { /^closed|^err|^ok Tao.Seal/ } @l)[-1] // '', 'closed', 'max_memory_per_user: who leaves too much half sent is cut off') or diag(@l);
like($l[-1], qr/^ok/, 'other connections of the same program stay');
like(slurp($host->dir . '/taod.log'), qr/raise max_memory_per_user in taod\.conf/, 'the log says what to raise');
my @runs = map { $host->tao(qw(run /bin/true)) } 1 .. 12;
my @too_many = grep { $_->{err} =~ /raise max_rate_per_user in taod\.conf/ } @runs;
ok(@too_many < 12, 'max_rate_per_user = 3: programs start');
@l = plain($host, 'connect', ('send Host.Trust -') x 60, ('recv') x 60);
ok((grep { /max_rate_per_user/ } @l) >= 1, 'more of them at once than that are refused') or diag(@l);
@l = split / /, (plain($host, 'open 60'))[-1];
ok($l[0] <= 40 && $l[0] >= 36, 'max_connections_per_user = 40') or diag(@l);
$host->down;

# --- taod.conf

for my $case ([ max_instances_per_user => 0 ], [ max_connections_per_program => 1000001 ],
	[ max_request => 4095 ], [ max_request => (1 << 20) + 1 ], [ max_slow_per_user => 65 ], [ max_rate_per_user => -1 ],
	[ max_memory_per_user => 'much' ]) {
	my ($key, $value) = @$case;
	spew($host->dir . '/taod.conf', "$key = $value\n");
	fails_with([ bin('taod'), '-d', $host->dir, '--test' ], qr/$key = $value: give a number from \d+ to \d+/,
		"taod.conf: $key = $value");
}
my $man = slurp(srctop() . '/man/taod.conf.5');
my @keys = slurp(srctop() . '/host/conf.c') =~ /^\s(?:LIMIT\(|\{ ")(\w+)/mg;
cmp_ok(scalar @keys, '>', 15, 'the keys that taod knows');
is(join(' ', grep { $man !~ /^\.It Cm $_ No =/m } @keys), '', 'are all in taod.conf(5)');

# --- fairness

# One worker set, so that whoever is served is served by it.
$host = host_with(workers => 1, max_connections_per_program => 1100, max_keys_per_program => 1000, max_rate_per_program => 100000,
	max_rate_per_user => 100000);
my $counter = "$dir/counter";
my $socket = $host->dir . '/run/tao.sock';
my $random = [ 'Tao.GetRandomBytes', '1020' ];

# What the honest one got, and the greedy one meanwhile.
sub beside {
	my ($requests, $depth, $op, @mode) = @_;
	unlink $counter;
	my $hosted = $mode[0] ne 'connect';
	my @tool = ($greedy, $socket, $counter);
	my $other = spawn($hosted ? $host->cmd('run', '--quiet', '--', @tool, @mode) : (@tool, @mode));
	my $r = run($host->cmd('run', '--quiet', '--', @tool, 'honest', $requests, $depth, @$op), { timeout => 60 });
	my $alive = $other->alive;
	diag($other->log) if length $other->log;
	kill 'KILL', -$other->pid;
	$other->stop('KILL');
	diag($r->{err}) if $r->{status} != 0;
	return (split(' ', $r->{out}), $alive);
}

# All that the honest one wants is under way from the start, so that it wants its turn also while others
# keep the processors and it does not run itself. Turns of connections instead of programs would give
# the other 64 times as much.
my ($own, $others) = beside(20000, 20000, $random, 'pipeline', 64, 512, @$random);
is($own, 20000, 'beside a program with 64 connections');
ok($others < 16 * $own, "which gets no more for having them ($others)");
($own, $others) = beside(100, 1, $random, 'pipeline', 64, 64, @$random);
is($own, 100, 'one request at a time, beside the same program');
# 62 connections for each one of its own, of which enough wait at any time for it to have something in the queue.
# Many keys make it slow enough for that.
is(scalar(grep { /^ok Tao\.GenerateKey/ } hosted($host, 'door', 'identify', map { $new_key->("of-many-$_") } 1 .. 60)), 60, 'many keys');
($own, $others) = beside(320, 20, [ 'Tao.ListKeys', '-', 16 ], 'pipeline', 1000, 8, 'Tao.ListKeys', '-');
cmp_ok($own, '>=', 320, 'slow operations beside many of another program');
cmp_ok($others, '<', 4 * $own, 'which do not come first');
($own, $others) = beside(1000, 1, $random, 'pipeline', 64, 8, 'Tao.ListKeys', '-');
is($own, 1000, 'quick ones beside slow ones');
for my $case ([ 'huge', 16 ], [ 'unread', 64 ], [ 'half', 200 ], ['connect']) {
	my $alive;
	($own, $others, $alive) = beside(1000, 1, $random, @$case);
	is($own, 1000, "beside '@$case', which goes on");
	ok($alive, 'and is alive');
}
my @log = grep { /cannot serve a connection/ } split /\n/, slurp($host->dir . '/taod.log');
cmp_ok(scalar @log, '<', 2000, 'refused connections do not fill the log');
ok_run([ $host->cmd('status') ], 'afterwards it serves');

done_testing();
