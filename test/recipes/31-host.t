# taod from the other side: what a program or a user may send it, in whatever
# state, shape and number, and what each operation answers.
use strict;
use warnings;

use File::Copy qw(copy);
use JSON::PP;
use Test::More;
use TaoRaw qw(:DEFAULT bytes hex_of varint);
use TaoTest;
use Time::HiRes qw(time);

# Numbers of enum tao_err.
use constant { OK => 0, EINVAL => 2, EFORMAT => 3, ELIMIT => 4, ENOTFOUND => 7, EEXIST => 8, EDENIED => 9,
	EPERM => 12, EPROTO => 14, ENOTRUN => 15, EOTHERHOST => 16, EALTERED => 17, EWRONGPROG => 18,
	EUNKNOWNKEY => 23, EPURPOSE => 24 };

my $MIB = 1 << 20;
my $USER_CONNS = 256;      # of one user that are no program's
my $INSTANCE_CONNS = 1024; # of one program
my $NOBODY = 65534;

my $dir = tmpdir();
my $host = start_host();
my $socket = $host->dir . '/run/tao.sock';
my $raw = tool('rawclient');
my $taod = decode_json($host->tao(qw(--json status))->{out})->{pid};
my $san = config('TAO_ASAN');
raw_use($host);

# --- talking to it

# Ends a command with all that it started.
sub finish {
	kill 'KILL', -$_[0]->pid;
	$_[0]->stop('KILL');
}

# --- what it is made of

sub fds { opendir my $d, "/proc/$taod/fd" or return -1; return scalar grep { /^\d/ } readdir $d }
sub rss { return slurp("/proc/$taod/status") =~ /^VmRSS:\s+(\d+)/m ? $1 / 1024 : 0 }
sub ticks { my @f = split / /, slurp("/proc/$taod/stat") =~ s/^.*\) //sr; return $f[11] + $f[12] }

outside('connect', 'call Host.Status');
hosted('door', 'identify');
wait_for(sub { return @{ decode_json($host->tao(qw(--json ps))->{out}) } == 0 });
my $fds_before = fds();

sub serves {
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	answers(OK, "afterwards it serves: $name", outside('connect', 'call Host.Status'));
}

# --- frames

sub frame { return pack('N', length $_[0]) . $_[0] }
sub header { return frame(field(1, $_[0]) . number(2, 7)) }
answers('closed', 'a header above the limit ends the connection', outside('connect', 'raw 00001001', 'recv'));
answers('closed', 'a body above the limit',
	outside('connect', 'raw ' . hex_of(header('Host.Status')) . '00100001', 'recv'));
answers('closed', 'a length of 2^32-1', outside('connect', 'raw ffffffff', 'recv'));
answers('closed', 'a header that is none', outside('connect', 'raw ' . hex_of(frame("\xff\xff\xff") . frame('')), 'recv'));
answers('closed', 'an empty header', outside('connect', 'raw ' . hex_of(frame('') . frame('')), 'recv'));
answers('closed', 'an empty operation', outside('connect', 'call  -'));
answers('closed', 'an operation of 64 bytes', outside('connect', 'call ' . 'x' x 64));
answers(EINVAL, 'one of 63', outside('connect', 'call ' . 'x' x 63));
answers(EINVAL, 'an unknown operation', outside('connect', 'call Tao.Frobnicate'));
answers(EINVAL, 'a known one in other letters', outside('connect', 'call tao.hello'));
answers(OK, 'a request byte by byte', outside('connect', 'bytewise Host.Status -'));
answers(OK, 'the same through a door', hosted('door', 'identify', 'bytewise Tao.GetTaoName -'));
answers(OK, 'an HTTP client is not served, but does no harm',
	outside('connect', 'raw ' . hex_of("GET / HTTP/1.1\r\n\r\n"), 'recv', 'connect', 'call Host.Status'));

# Sizes at the limits: too large for the operation is told, a megabyte is read.
for my $case ([ 'Host.Status', 4096 ], [ 'Host.Trust', 32768 ], [ 'Host.Run', $MIB ]) {
	my ($op, $max) = @$case;
	my $code = code((outside('connect', "call $op ff*$max"))[-1]);
	ok($code =~ /^(?:0|3|4)$/ && $code != ELIMIT || $code == ELIMIT && $max == $MIB, "$op with $max bytes") or diag($code);
	answers(ELIMIT, "and with one more", outside('connect', "call $op ff*" . ($max + 1))) if $max < $MIB;
}
answers(ELIMIT, 'Tao.Hello takes nothing', outside('connect', 'call Tao.Hello 00'));

is((outside('connect', 'burst 3000 Host.Status -'))[-1], '3000 ok', 'requests in one piece are answered in order');
my @half = outside('connect', ('send Host.Status') x 60, 'half', ('recvlen') x 60, 'recv');
is(scalar(grep { /^ok Host.Status \d+$/ } @half), 60, 'a client that sends no more still gets its answers');
is($half[-1], 'closed', 'and then the end');
is((hosted('door', 'identify', 'burst 40 Tao.GetRandomBytes 10808040'))[-1], '40 ok',
	'answers of a megabyte each wait for their reader');

# --- slow readers, and what they may leave

{
	my @slow = map {
		spawn('sh', '-c', "printf 'connect\\nflood 1000000 Host.Status -\\nsleep 20000\\n' | exec $raw $socket")
	} 1 .. 4;
	my @sent = map { $_->wait_for_line(qr/^(\d+) sent$/m, 20) } @slow;
	ok(!(grep { !defined || $_ > 100000 } @sent), "who does not read is not read: @sent requests were taken");
	serves('after floods');
	my $before = ticks();
	select undef, undef, undef, 1;
	cmp_ok(ticks() - $before, '<', 30, 'and who does not read costs no time');
	cmp_ok(rss(), '<', 200, 'nor much memory') if !$san;
	finish($_) for @slow;
}
{
	# A hundred times the most that an unfinished request may hold.
	my $partial = hex_of(header('Host.Run')) . '00100000' . '00*1000000';
	my $before = rss();
	my $p = spawn('sh', '-c', "(for i in \$(seq 100); do echo use \$i; echo connect; echo raw $partial; done; " .
		"echo echo done; sleep 20) | exec $raw $socket");
	ok($p->wait_for_line(qr/^done$/m, 60), 'a hundred unfinished requests');
	cmp_ok(rss() - $before, '<', 250, 'are held in what they were announced to be') if !$san;
	serves('meanwhile');
	finish($p);
}

# --- who may ask what, when

# States: n new, by the socket; h Hello sent; p a program. d: new, through a door.
my %states = ('Tao.Sign' => 'p', 'Tao.Decrypt' => 'p', 'Tao.Derive' => 'p', 'Tao.OpenKey' => 'p', 'Tao.GetKey' => 'p', 'Tao.GetCertificate' => 'p',
	'Tao.ListKeys' => 'p', 'Tao.GenerateKey' => 'p', 'Tao.GetPolicyCertificate' => 'ndhp', 'Tao.Hello' => 'nd',
	'Tao.Prove' => 'h', 'Tao.Door' => 'p', 'Tao.GetTaoName' => 'p', 'Tao.ExtendTaoName' => 'p', 'Tao.GetRandomBytes' => 'p',
	(map { ("Tao.$_" => 'p') } qw(Identity Peer PskClient PskServer GroupNonces GroupServer GroupClient CheckPeer Handshake
	GroupKey)), 'Tao.Attest' => 'p', 'Tao.Seal' => 'p', 'Tao.Unseal' => 'p', map({ ("Tao.$_" => 'p') } qw(GetSharedSecret
	InitCounter GetCounter RollbackProtectedSeal RollbackProtectedUnseal)), map { ("Host.$_" => 'n') } qw(Run NewKey
	ImportKey RotateKey DeleteKey Keys Key Cert ImportCert RemoveCert RequestCert Status Ps Doctor Trust Measure Policy AddFact RemoveFact Epoch Counters Log Shutdown));
my %into = (n => ['connect'], d => ['door'], h => [ 'connect', 'hello' ], p => [ 'connect', 'identify' ]);
my @listed = slurp(srctop() . '/host/ops.c') =~ /^\t\{ "([\w.]+)",/mg;
is_deeply([ sort keys %states ], [ sort @listed ], 'the operations of the table');
for my $state (sort keys %into) {
	my @ops = grep { !($state eq 'n' && $_ eq 'Host.Shutdown') } sort keys %states;
	my @got = hosted(map { my $op = $_; ("echo =$op", @{ $into{$state} }, "call $op", 'shut') } @ops);
	my (%got, $op);
	for (@got) {
		if (/^=(.*)/) { $op = $1 } elsif ($_ ne 'ok' && !/^ok Tao.(?:Prove|Hello)$/) { $got{$op} = $_ }
	}
	my @wrong;
	for my $op (@ops) {
		my $allowed = $states{$op} =~ /$state/;
		my $code = code($got{$op});
		push @wrong, "$op: $got{$op}" if $code !~ /^\d+$/ || $allowed == ($code == EPROTO);
	}
	is("@wrong", '', "state $state: allowed is what the table says, the rest is refused");
}
answers(EPROTO, 'Tao.Prove without Tao.Hello', hosted('connect', 'prove 00*32'));
answers(EPROTO, 'Tao.Hello twice', hosted('connect', 'hello', 'hello'));
answers(OK, 'which does not forget the first', hosted('connect', 'hello', 'call Tao.Hello', 'prove'));
answers(EPROTO, 'Tao.Hello again, identified', hosted('connect', 'identify', 'hello'));
answers(ENOTRUN, 'a process outside tao run', outside('connect', 'identify'));
answers(EPROTO, 'and it stays outside', outside('connect', 'identify', 'call Tao.GetTaoName'));

# --- the challenge

answers(EPROTO, 'a wrong challenge', hosted('connect', 'hello', 'prove 00*32'));
answers(EPROTO, 'and then the right one is too late', hosted('connect', 'hello', 'prove 00*32', 'prove'));
answers(OK, 'but not after another Tao.Hello', hosted('connect', 'hello', 'prove 00*32', 'identify'));
answers(EPROTO, "a challenge of $_ bytes", hosted('connect', 'hello', "prove 00*$_")) for 0, 31, 33, 4000;
answers(EPROTO, 'the challenge of another connection',
	hosted('connect', 'hello', 'use 1', 'connect', 'call Tao.Hello', 'prove'));
answers(EDENIED, 'a challenge answered by a child', hosted('connect', 'hello', 'child prove'));
answers(OK, 'which does not spoil it for the parent', hosted('connect', 'hello', 'child prove', 'identify'));
answers(EDENIED, 'the same through the door', hosted('door', 'hello', 'child prove'));
answers('closed', 'a child on its parent\'s connection',
	hosted('connect', 'identify', 'child send Tao.GetTaoName', 'recv'));
answers(OK, 'with a connection of its own it is the same program', hosted('fork connect; identify'));
answers(OK, 'through the door, too', hosted('fork door; identify'));
answers('closed', 'half a request by a parent, half by its child',
	hosted('connect', 'hello', 'raw 0000', 'child raw 0010', 'recv'));
answers(EDENIED, 'Host.Run on somebody else\'s connection',
	outside('connect', 'fd /bin/true', 'child ' . call('Host.Run', field(1, '/bin/true'), field(2, 'true'))));
# A process that queues requests and then becomes another program must not get them answered as that.
my @early = hosted('connect', 'hello', 'provewith Tao.GetTaoName', 'recv', 'recv', 'identify');
ok(code($early[3]) == EPROTO && code($early[4]) == EPROTO, 'a request that comes with Tao.Prove') or diag(@early);
answers(OK, 'but a proper one comes through', @early);

# --- connections that are not what they seem

answers('closed', 'a connection that stopped telling who sends',
	hosted('pair', 'identify', 'nocreds', 'call Tao.GetTaoName'));
my $pidfd = (hosted('pair', 'passpidfd', 'identify', ('call Tao.GetTaoName') x 200, 'echo ' . fds()))[1];
SKIP: {
	skip 'this kernel sends no pidfds', 1 if $pidfd ne 'ok';
	my $p = spawn('sh', '-c', "(echo pair; echo passpidfd; echo identify; for i in \$(seq 300); do " .
		"echo call Tao.GetTaoName; done; echo echo done; sleep 20) | exec " .
		join(' ', $host->cmd('run', '--quiet', '--', $raw), $socket));
	$p->wait_for_line(qr/^done$/m, 20);
	cmp_ok(fds(), '<', $fds_before + 20, 'descriptors that a program asks for in the host\'s place are not kept');
	finish($p);
}
answers(OK, "through the door: $_", hosted("doorsend $_", 'door', 'identify'))
    for '/dev/null', 'listening', 'socket', 'byte';
answers('failed', 'an empty message closes the door', hosted('doorsend nothing', 'sleep 100', 'door'));
answers(OK, 'then there is still the socket', hosted('doorsend nothing', 'sleep 100', 'connect', 'identify'));
hosted('doorsend empty', 'sleep 100');
serves('after empty messages with descriptors');

# The client's end of a connection to the host, through the door: the host would talk to itself, as its owner.
{
	my $before = ticks();
	hosted('connect', 'doorsend loop', 'send Tao.GetPolicyCertificate', 'sleep 1500');
	cmp_ok(ticks() - $before, '<', 60, 'the host does not answer itself');
	serves('after that');
}
answers(EPROTO, 'a door is not for the host\'s own operations', hosted('door', 'call Host.Status'));

# Descriptors whose close waits for a peer that never reads.
{
	my @ways = ("echo connect; echo fd lingering; echo send Host.Status", "echo connect; echo fd lingering; echo raw 00; echo shut",
		"echo doorsend lingering", "echo connect; echo fd lingering; echo raw 00; echo fd lingering; echo raw 00");
	my $run = join ' ', $host->cmd('run', '--quiet', '--', $raw), $socket;
	my @p = map { spawn('sh', '-c', "($_; echo echo up; sleep 60) | exec $run") } (@ways) x 2;
	$_->wait_for_line(qr/^up$/m, 10) for @p;
	my $start = time;
	serves('after descriptors that would linger');
	cmp_ok(time - $start, '<', 10, 'at once');
	finish($_) for @p;
}
answers(OK, 'descriptors that nobody asked for', outside('connect', 'fd two', 'call Host.Status'));
answers(OK, 'many of them', outside('connect', 'fd many', 'call Host.Status'));
answers(OK, 'one with each of many requests', outside('connect', ('fd /dev/null', 'call Host.Status') x 50));
is(code($_), EINVAL, 'Host.Run without one') for (outside('connect', call('Host.Run', field(1, '/bin/true'), field(2, 'true'))))[-1];

# --- malformed bodies, for each field of each message

my %fields = ('Tao.Sign' => 3, 'Tao.OpenKey' => 2, 'Tao.GetKey' => 2, 'Tao.GetCertificate' => 2, 'Tao.GenerateKey' => 8,
	'Tao.ExtendTaoName' => 8, 'Tao.GetRandomBytes' => 8, 'Tao.Attest' => 8, 'Tao.Seal' => 8, 'Tao.Unseal' => 8,
	'Host.Run' => 7, 'Host.NewKey' => 8, 'Host.Key' => 2, 'Host.Cert' => 2, 'Host.Doctor' => 2, 'Host.Trust' => 3,
	'Host.Measure' => 1, 'Tao.Peer' => 1, 'Tao.PskClient' => 3, 'Tao.PskServer' => 3, 'Tao.GroupNonces' => 1, 'Tao.GroupServer' => 3,
	'Tao.GroupClient' => 3, 'Tao.CheckPeer' => 3, 'Tao.Handshake' => 10, 'Tao.GroupKey' => 2, 'Host.AddFact' => 1, 'Host.RemoveFact' => 1, 'Tao.Prove' => 1);
for my $op (sort keys %fields) {
	my @bad = map { my $n = $_; map { varint($n << 3 | $_->[0]) . $_->[1] }
		[ 0, "\x80" ], [ 0, "\xff" x 11 ], [ 1, 'short' ], [ 2, "\x05abc" ], [ 2, "\xff\xff\xff\xff\x0f" ],
		[ 2, "\x80" x 9 ], [ 3, '' ], [ 5, 'abc' ], [ 6, 'x' ], [ 7, 'x' ] } 1 .. $fields{$op};
	push @bad, "\x00\x01", "\x80", "\x02\x00", field(20, 'x') . "\x80";
	my $state = $into{ substr $states{$op}, 0, 1 };
	my @l = grep { /^(?:err|ok) $op|closed/ } hosted(@$state, (map { "call $op " . hex_of($_) } @bad));
	@l = grep { !/^ok Tao.Prove/ } @l if $op ne 'Tao.Prove';
	my @wrong = grep { !/^err \S+ (?:3|4) / } @l;
	ok(@l == @bad && !@wrong, "$op: " . @bad . ' malformed bodies') or diag(scalar(@l), " answers; @wrong");
}
answers(ELIMIT, 'more fields than it will keep', outside('connect', 'call Host.Run ' . hex_of(number(100, 1) x 200000)));
answers(ELIMIT, 'more arguments than it will keep', outside('connect', 'call Host.Run ' . '1200' x 500000));
answers(EINVAL, 'an argument with a NUL', outside('connect', 'fd /bin/true',
	call('Host.Run', field(1, '/bin/true'), field(2, "a\0b"))));
answers(ELIMIT, 'more arguments than are measured', outside('connect', 'fd /bin/true',
	call('Host.Run', field(1, '/bin/true'), field(2, 'a') x 1025)));
answers(EINVAL, "a bad label", outside('connect', 'fd /bin/true',
	call('Host.Run', field(1, '/bin/true'), field(2, 'a'), field(6, $_)))) for "\e[2J", "a\nb", 'x' x 65;
answers(OK, 'an empty argument', outside('connect', 'fd /bin/true',
	call('Host.Run', field(1, '/bin/true'), field(2, 'true'), field(2, ''))));
answers(EINVAL, 'a relative path', outside('connect', 'fd /bin/true', call('Host.Run', field(1, 'true'), field(2, 'a'))));
answers(EINVAL, 'no arguments', outside('connect', 'fd /bin/true', call('Host.Run', field(1, '/bin/true'))));
answers(EINVAL, 'an unknown measure', outside('connect', 'fd /bin/true',
	call('Host.Run', field(1, '/bin/true'), field(2, 'a'), field(5, 'none'))));
serves('after malformed bodies');

# --- registrations

{
	my @run = ('fd /bin/true', call('Host.Run', field(1, '/bin/true'), field(2, 'true')));
	my @l = grep { /Host.Run/ } outside('connect', (@run) x 20);
	is(scalar(grep { /^ok/ } @l), 16, 'a process registers sixteen times');
	answers(ELIMIT, 'and not more often', $l[-1]);
	@l = outside('connect', @run, 'shut', 'connect', 'identify');
	answers(ENOTRUN, 'who registers a program and does not become it has no name', @l);
	@l = outside('connect', @run, 'fds');
	is($l[-1], 1, 'the door comes with the answer');
	ok(wait_for(sub { return fds() <= $fds_before + 2 }), 'nothing of it stays') or diag(fds(), ' ', $fds_before);
}

# --- what takes for ever

SKIP: {
	skip 'connections that come to nothing: takes more than a minute, runtests --all runs it', 6 if !$ENV{TAO_TEST_ALL};
	my $before = fds();
	my $run = join ' ', $host->cmd('run', '--quiet', '--', $raw), $socket;
	my @p = map { spawn('sh', '-c', "($_; echo echo up; sleep 100; echo recv) | exec $run") }
	    'echo connect', 'echo connect; echo raw 00', 'echo door; echo identify; echo raw 00',
	    'echo connect; echo identify; echo flood 1000000 Tao.GetRandomBytes 10808040';
	my $idle = spawn('sh', '-c', "(echo connect; echo identify; sleep 90; echo call Tao.GetTaoName) | exec $run");
	hosted('doorsend both'); # nobody but the host has an end of it
	$_->wait_for_line(qr/^up$/m, 10) for @p;
	# Each program has two descriptors at the host, for its door and for its end.
	cmp_ok(fds(), '>=', $before + 2 * 5 + 1 + 4 + 2, 'connections where it is the program\'s turn');
	ok(wait_for(sub { return fds() <= $before + 2 * 5 + 1 }, 80), 'are closed after a while') or diag(fds(), ' ', $before);
	ok($idle->wait_for_line(qr/^ok Tao.GetTaoName/m, 40), 'those of programs that are only idle are not');
	ok($_->wait_for_line(qr/^closed/m, 60), 'which their programs notice') for @p[ 0 .. 2 ];
	finish($_) for @p, $idle;
}

# --- what takes long delays nobody

{
	my $large = "$dir/large";
	spew($large, slurp($raw));
	chmod 0755, $large;
	truncate $large, 1 << 30;
	my $measure = 'echo connect; echo fd ' . $large . '; echo ' . join '', map { s/^call/send/r }
	    call('Host.Run', field(1, $large), field(2, 'large'));
	my @p = map { spawn('sh', '-c', "($measure; echo recvlen) | exec $raw $socket") } 1 .. 8;
	$_->wait_for_line(qr/^ok\nok\nok$/m, 10) for @p;
	outside('connect', 'call Tao.GetPolicyCertificate') for 1 .. 5;
	cmp_ok(scalar(grep { $_->alive } @p), '>', 0, 'others are answered while large programs are measured');
	ok(defined $_->wait_for_line(qr/^(ok|err) Host.Run/m, 60), 'which is done in the end') for $p[0];
	finish($_) for @p;
}

# --- limits of connections

{
	my $n = $USER_CONNS + 50;
	my @l = outside("open $n $USER_CONNS", 'call Host.Status');
	cmp_ok((split ' ', $l[0])[0], '<=', $USER_CONNS, "of $n connections of a user no more stay than may");
	cmp_ok((split ' ', $l[0])[0], '>=', $USER_CONNS - 10, 'but these do');
	answers(OK, 'the first of them works', @l);
	serves('when they are closed');
	my $m = $INSTANCE_CONNS + 20;
	@l = hosted("opendoor $m", 'call Tao.GetTaoName', "use $m", 'connect', 'identify');
	is((grep { / open$/ } @l)[-1], "$INSTANCE_CONNS open", 'a program has as many as it may');
	is(scalar(grep { /^ok Tao.GetTaoName/ } @l), 1, 'which work');
	answers(ELIMIT, 'and no more', $l[-1]);
	serves('when the program is gone');
}

# --- names

my ($name) = map { name_of($_) } (hosted('connect', 'identify', 'call Tao.GetTaoName'))[-1];
like($name, qr/^key\(\[[0-9a-f]{64}\]\)\.DatalogGuard\(key\(\[[0-9a-f]{64}\]\)\)\.Measured\(\[[0-9a-f]{64}\], \[[0-9a-f]{64}\], $<\)\.PolicyKey\(\[[0-9a-f]{64}\]\)$/,
	'Tao.GetTaoName');
my ($domain) = $name =~ /PolicyKey\(\[(\w+)\]/;
sub extend { return call('Tao.ExtendTaoName', field(1, encoded('subprin', $_[0]))) }
my @l = hosted('connect', 'identify', extend('.A(1)'), 'call Tao.GetTaoName', extend('.B("x").C()'),
	'use 1', 'door', 'identify', 'call Tao.GetTaoName');
is(name_of($l[3]), "$name.A(1)", 'Tao.ExtendTaoName');
is(name_of($l[-1]), "$name.A(1).B(\"x\").C()", 'for all connections of the program');
is((hosted('connect', 'identify', 'call Tao.GetTaoName'))[-1], (hosted('door', 'identify', 'call Tao.GetTaoName'))[-1],
	'the name of the next start is as before');
@l = hosted('connect', 'identify', extend(".PolicyKey([$domain])"), 'call Tao.GetTaoName');
is(code($l[-2]), OK, 'PolicyKey of the domain is accepted');
is(name_of($l[-1]), $name, 'without effect');
for my $word (qw(Program Measured Process PolicyKey DatalogGuard ACLGuard TrivialGuard Container LinuxHost)) {
	@l = hosted('connect', 'identify', extend(".$word([00])"), extend(".A(1).$word([00])"), 'call Tao.GetTaoName');
	ok(code($l[-3]) == EDENIED && code($l[-2]) == EDENIED && name_of($l[-1]) eq $name, "$word is the host's") or diag(@l);
}
answers(EDENIED, 'PolicyKey of the domain with more behind it', hosted('connect', 'identify', extend(".PolicyKey([$domain]).A(1)")));
answers(EFORMAT, 'what is no extension', hosted('connect', 'identify', call('Tao.ExtendTaoName', field(1, 'xyz'))));
answers(EFORMAT, 'no extension at all', hosted('connect', 'identify', 'call Tao.ExtendTaoName'));
answers(ELIMIT, 'a name does not grow without end', hosted('connect', 'identify',
	(extend('.A("' . 'x' x 2000 . '")')) x 3));

# --- random bytes

sub random_bytes { return call('Tao.GetRandomBytes', number(2, $_[0])) }
my @random = map { parse($_)->{1} } (hosted('connect', 'identify', random_bytes(32), random_bytes(32)))[ -2, -1 ];
ok(length $random[0] == 32 && length $random[1] == 32 && $random[0] ne $random[1], 'Tao.GetRandomBytes');
is(length parse((hosted('connect', 'identify', random_bytes($_)))[-1])->{1}, $_, "$_ of them") for 1, 65537, $MIB;
answers(ELIMIT, "$_ random bytes", hosted('connect', 'identify', random_bytes($_))) for 0, $MIB + 1, 0x7fffffff;
answers(ELIMIT, 'a negative number', hosted('connect', 'identify', 'call Tao.GetRandomBytes 10ffffffffffffffffff01'));
answers(ELIMIT, 'no number', hosted('connect', 'identify', 'call Tao.GetRandomBytes'));

# --- attestations

my $form = encoded('form', 'Says("hello")');
my ($root) = $name =~ /^(key\(\[\w+\]\))/;
my ($host_name) = $name =~ /^(.*)\.Measured/;
sub attest { return parse((hosted('connect', 'identify', call('Tao.Attest', field(1, $form), @_)))[-1])->{1} }
is(bytes('verify ' . hex_of(attest())), "$root | $name | Says(\"hello\")", 'Tao.Attest: the program says it');
is(bytes('verify ' . hex_of(attest(field(6, encoded('prin', "$name.X(1)"))))), "$root | $name.X(1) | Says(\"hello\")",
	'or a subprincipal of it');
my ($from, $until) = split ' ', bytes('times ' . hex_of(attest()));
cmp_ok(abs($from / 1e9 - time), '<', 100, 'from now on');
is(($until - $from) / 1e9, 365 * 86400, 'for a year');
my $now = int(time) * 10**9;
is(bytes('times ' . hex_of(attest(number(4, $now - 5), number(5, $now + 3600 * 10**9)))),
	($now - 5) . ' ' . ($now + 3600 * 10**9), 'or when it says');
like(bytes('verify ' . hex_of(attest(number(4, 5), number(5, 6)))), qr/^err 19 /, 'what is over does not verify');
my $att = attest();
substr($att, length($att) / 2, 1) ^= "\1";
like(bytes('verify ' . hex_of($att)), qr/^err /, 'nor what was altered');
for my $other ($root, $host_name, $name =~ s/\.PolicyKey.*//r, $name =~ s/Measured\(\[../Measured([00/r,
	'key([' . '00' x 32 . '])') {
	answers(EDENIED, 'nobody else says it: ' . substr($other, 0, 40) . '...',
		hosted('connect', 'identify', call('Tao.Attest', field(1, $form), field(6, encoded('prin', $other)))));
}
answers(EFORMAT, 'what is no formula', hosted('connect', 'identify', call('Tao.Attest', field(1, "\x63"))));
answers(EFORMAT, 'no statement', hosted('connect', 'identify', 'call Tao.Attest'));
answers(EFORMAT, 'an issuer that is none', hosted('connect', 'identify', call('Tao.Attest', field(1, $form), field(6, 'x'))));

# --- sealed data

my $copy = "$dir/other";
spew($copy, slurp($raw) . 'x');
chmod 0755, $copy;
sub seal { my ($data, $word) = @_; return call('Tao.Seal', field(1, $data), defined $word ? field(3, $word) : ()) }
sub unseal { return call('Tao.Unseal', field(1, $_[0])) }
my @id = ('connect', 'identify');
my %blob = map { $_ => parse((hosted(@id, seal("for $_", $_)))[-1])->{1} } qw(self few any exact program host);
for my $word (sort keys %blob) {
	my $got = parse((hosted(@id, unseal($blob{$word})))[-1]);
	is($got->{1}, "for $word", "what is sealed as $word is unsealed");
	is($got->{2}, $word, 'with the word that was used');
	my $want = $word =~ /^(?:any|host)$/ ? OK : EWRONGPROG;
	answers($want, "by another program: $word", run_as($copy, undef, @id, unseal($blob{$word})));
	$want = $word =~ /^(?:self|exact)$/ ? EWRONGPROG : OK;
	answers($want, "by one with an extended name: $word", hosted(@id, extend('.X(1)'), unseal($blob{$word})));
}
is(parse((hosted(@id, unseal(parse((hosted(@id, seal('x')))[-1])->{1})))[-1])->{2}, 'self', 'without a word it is self');
answers(EINVAL, 'another word', hosted(@id, seal('x', 'some')));
answers(EINVAL, 'nothing is not sealed', hosted(@id, seal('', 'host')));
answers(EINVAL, 'nor no data', hosted(@id, 'call Tao.Seal'));
my $big = parse((hosted(@id, 'call Tao.Seal 0a80803c' . '61*983040'))[-1])->{1};
ok(length $big > 983040, 'nearly a megabyte is sealed');
for my $at (0, 4, 5, 6, 38, 42, 74, 90, length($blob{host}) - 1) {
	my $bad = $blob{host};
	substr($bad, $at, 1) ^= "\1";
	my $code = code((hosted(@id, unseal($bad)))[-1]);
	ok($code =~ /^(?:3|16|17|20)$/, "altered at byte $at it is not unsealed") or diag($code);
}
answers(EFORMAT, 'what is no blob', hosted(@id, unseal('x')));
answers(EFORMAT, 'nothing', hosted(@id, 'call Tao.Unseal'));

# --- keys that a program makes itself

sub generate { my ($n, $policy) = @_; return call('Tao.GenerateKey', field(1, $n), defined $policy ? field(5, $policy) : ()) }
# The one of Tao.Identity above.
my @identities = glob $host->dir . '/keys/*/identity-*.pem';
is(scalar @identities, 1, 'which is the only one');
is($host->tao(qw(key delete --yes), s{.*/(.*)\.pem}{$1}r)->{status}, 0, "$_ goes") for @identities;
@l = hosted(@id, generate('own'), call('Tao.GetKey', field(1, 'own')), 'call Tao.ListKeys');
is(code($l[2]), OK, 'Tao.GenerateKey');
my $stub = parse($l[2])->{1};
my $key = parse($l[3]);
is($key->{1}, $stub, 'Tao.GetKey gives the same stub');
is(length $key->{2}, 32, 'and an id');
my $info = parse('ok x ' . hex_of(parse($l[4])->{1}));
is($info->{1}, 'own', 'Tao.ListKeys lists it');
is($info->{7}, $raw, 'and for whom it is');
sub sign { my ($id, $data, $digest) = @_; return call('Tao.Sign', field(1, $id), field(2, $data), defined $digest ? field(3, $digest) : ()) }
@l = hosted(@id, call('Tao.OpenKey', field(2, $stub)), sign($key->{2}, 'x' x 32, 'SHA256'));
is(parse($l[-2])->{2}, $key->{2}, 'Tao.OpenKey gives the same id');
ok(length(parse($l[-1])->{1} // '') > 60, 'Tao.Sign signs');
answers(EINVAL, 'not what is no digest', hosted(@id, sign($key->{2}, 'x' x 31, 'SHA256')));
answers(OK, 'without one it is a message', hosted(@id, sign($key->{2}, 'x' x 33)));
answers(EPURPOSE, 'but no statement of a Tao', hosted(@id, sign($key->{2}, field(1, 'Tao Attestation Signing Context V1') . field(2, 'x'))));
answers(EUNKNOWNKEY, 'nor with an unknown key', hosted(@id, sign('y' x 32, 'x' x 32, 'SHA256')));
answers(EINVAL, 'nor with half an id', hosted(@id, sign('y' x 16, 'x' x 32, 'SHA256')));
answers(EWRONGPROG, 'another program cannot sign with it', run_as($copy, undef, @id, sign($key->{2}, 'x' x 32, 'SHA256')));
answers(EWRONGPROG, 'nor open it', run_as($copy, undef, @id, call('Tao.OpenKey', field(2, $stub))));
answers(EWRONGPROG, 'nor get it', run_as($copy, undef, @id, call('Tao.GetKey', field(1, 'own'))));
answers(EWRONGPROG, 'nor its certificate', run_as($copy, undef, @id, call('Tao.GetCertificate', field(1, 'own'))));
is((run_as($copy, undef, @id, 'call Tao.ListKeys'))[-1], 'ok Tao.ListKeys ', 'nor is it listed there');
answers(EDENIED, 'no certificate without a rule', hosted(@id, call('Tao.GetCertificate', field(1, 'own'))));
answers(EEXIST, 'a name is used once', hosted(@id, generate('own')));
answers(EINVAL, "a key is not called '$_'", hosted(@id, generate($_))) for '', 'ca', '../x', 'a/b', '.x', 'x' x 65;
answers(ENOTFOUND, 'a key that is not', hosted(@id, call('Tao.GetKey', field(1, 'none'))));
answers(EINVAL, 'a key without a name', hosted(@id, 'call Tao.GetKey'));
answers(EINVAL, 'a key with a path for a name', hosted(@id, call('Tao.GetKey', field(1, '../0/own'))));
answers(EFORMAT, 'a stub that is none', hosted(@id, call('Tao.OpenKey', field(2, 'x'))));
answers(EINVAL, 'no stub', hosted(@id, 'call Tao.OpenKey'));
my $exact = parse((hosted(@id, extend('.Mode(1)'), generate('exact', 'exact')))[-1])->{1};
answers(EWRONGPROG, 'an exact key is not for the shorter name', hosted(@id, call('Tao.OpenKey', field(2, $exact))));
answers(OK, 'but for the one that made it', hosted(@id, extend('.Mode(1)'), call('Tao.OpenKey', field(2, $exact))));
my $python = "$dir/python3";
copy($raw, $python);
chmod 0755, $python;
answers(EDENIED, 'an interpreter makes no key for all its scripts', run_as($python, undef, @id, generate('scripts')));
answers(OK, 'but one for its exact name', run_as($python, undef, @id, generate('script', 'exact')));

# --- instances

sub ps {
	for (1 .. 3) {
		my $r = $host->tao(qw(--json ps));
		return @{ decode_json($r->{out}) } if $r->{status} == 0;
		diag("tao ps: $r->{status} $r->{err}");
		sleep 1;
	}
	die "tao ps does not answer\n";
}
ok(wait_for(sub { return !ps() }), 'ended programs are no longer listed') or diag(explain(ps()));
{
	my $daemon = spawn('sh', '-c', "(echo daemon; echo door; echo identify; echo pid; sleep 3; echo call Tao.GetTaoName; " .
		"echo connect; echo identify; sleep 3) | exec " . join(' ', $host->cmd('run', '--quiet', '--', $raw), $socket));
	my $pid = $daemon->wait_for_line(qr/^(\d+)$/m, 20);
	ok(defined $pid, 'a program that became a daemon has its name by the door') or diag($daemon->log);
	my @ps = ps();
	is(scalar @ps, 1, 'it is listed');
	is($ps[0]{pid}, $pid, 'as the process that lives');
	ok($daemon->wait_for_line(qr/^ok Tao.GetTaoName .*\nok\n(ok Tao.Prove )/m, 20),
		'and then by the socket: that process has proved itself before') or diag($daemon->log);
	ok(wait_for(sub { return !ps() }, 20), 'when it ends it is listed no more');
}
@l = hosted('door', 'descriptor', "exec $copy $socket door identify connect identify");
like(name_of($l[$_]), qr/\.Measured\(/, 'another program executed by it has a name') for -3, -1;
isnt(name_of($l[$_]), $name, 'which is its own') for -3, -1;
answers(OK, 'the same program executed again has', hosted("exec /proc/self/exe $socket connect identify"));
{
	my $stop = spawn('sh', '-c', "(echo connect; echo identify; echo open 20; echo echo up; sleep 30) | exec " .
		join(' ', $host->cmd('run', '--quiet', '--name', 'killed', '--', $raw), $socket));
	ok($stop->wait_for_line(qr/^up$/m, 20), 'a program');
	is((ps())[0]{label}, 'killed', 'is listed');
	finish($stop);
	ok(wait_for(sub { return !ps() }), 'and when it is killed, not any more');
}

# --- other users

SKIP: {
	skip 'other users: only root can be one', 1 if $<;
	skip 'other users: setpriv is not there', 1 if !-x '/usr/bin/setpriv';
	my $there = run('setpriv', "--reuid=$NOBODY", "--clear-groups", 'test', '-x', $raw)->{status} == 0;
	skip 'other users: they cannot reach the build tree', 1 if !$there;
	my @as = ($raw, $NOBODY, @id);
	is(name_of((run_as(@as, 'call Tao.GetTaoName'))[-1]), $name =~ s/, \d+\)\.Policy/, $NOBODY).Policy/r,
		'the user is part of the name');
	for my $word (sort keys %blob) {
		answers($word =~ /^(?:any|host)$/ ? OK : EWRONGPROG, "what root sealed as $word", run_as(@as, unseal($blob{$word})));
	}
	answers(EWRONGPROG, 'another user cannot open the key', run_as(@as, call('Tao.OpenKey', field(2, $stub))));
	answers(EWRONGPROG, 'nor sign with it, though it is open', run_as(@as, sign($key->{2}, 'x' x 32, 'SHA256')));
	answers(ENOTFOUND, 'nor is it there by its name', run_as(@as, call('Tao.GetKey', field(1, 'own'))));
	is((run_as(@as, 'call Tao.ListKeys'))[-1], 'ok Tao.ListKeys ', 'nor listed');
	answers(OK, 'but makes one of that name', run_as(@as, generate('own')));
	my @outside = ('setpriv', "--reuid=$NOBODY", "--clear-groups", $raw, $socket);
	sub outsider { return split /\n/, run(@outside, { stdin => join("\n", 'connect', @_) . "\n" })->{out} }
	answers(EPERM, "$_ is the owner's", outsider("call $_ 0a0141")) for qw(Host.Trust Host.AddFact Host.RemoveFact Host.Shutdown
	    Host.Epoch Host.Counters);
	answers(EPERM, 'so are keys for others', outsider(call('Host.NewKey', field(1, 'k'), number(7, 0))));
	answers(ENOTFOUND, 'others\' keys are not shown', outsider(call('Host.Key', field(1, 'exact'))));
	my $p = spawn('sh', '-c', "(echo echo up; sleep 30) | exec " . join(' ', $host->cmd('run', '--quiet', '--', $raw), $socket));
	$p->wait_for_line(qr/^up$/m, 20);
	is((outsider('call Host.Ps'))[-1], 'ok Host.Ps ', 'nor others\' programs');
	answers(EPERM, 'nor diagnosed', outsider(call('Host.Doctor', number(1, $p->pid))));
	finish($p);
	# Through the door the host would read its own refusal as the owner's request.
	run_as($raw, $NOBODY, 'connect', 'doorsend loop', 'send Host.Shutdown', 'sleep 500');
	serves('after another user made it talk to itself');
	my $open = spawn('sh', '-c', "(echo open 400; sleep 30) | exec @outside");
	$open->wait_for_line(qr/open$/m, 20);
	serves('when another user has all connections that he may have');
	finish($open);
}

# --- nothing is left

ok(wait_for(sub { return fds() <= $fds_before }), 'no descriptor is left over')
    or diag(fds(), " instead of $fds_before: ", join ' ', map { readlink($_) // '' } glob "/proc/$taod/fd/*");
ok(wait_for(sub { return !ps() }), 'nor an instance');
is(decode_json($host->tao(qw(--json status))->{out})->{pid}, $taod, 'and it is the same host still');
$host->down;
unlike(slurp($host->dir . '/taod.log'), qr/Sanitizer|runtime error/, 'without complaints');

done_testing();
