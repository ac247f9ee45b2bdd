# Programs that were built with CloudProxy's own client library, which speaks over a socket of
# theirs without a challenge (tao run --channel=unix). goclient stands for them: it has nothing of this
# project in it, and its strictness about replies is that library's.
use strict;
use warnings;

use File::Copy qw(copy);
use Test::More;
use TaoTest;

my $NOBODY = 65534;
my $NONE_OF = qr/process \d+ is none of its forks/;

my $dir = tmpdir();
my $host = start_host();
my $go = tool('goclient');
my $raw = tool('rawclient');
my $files = 0;

sub script { return spew("$dir/script" . $files++, join('', map { "$_\n" } @_)) }
sub sockets { return glob $host->dir . '/run/programs/*' }
sub pid_of_taod { return slurp($host->dir . '/run/taod.pid') + 0 }

# What goclient prints under tao run, a line for each command; {cmd}, {run}: another, and options.
sub hosted {
	my %opt = ref $_[-1] eq 'HASH' ? %{ pop @_ } : ();
	my @run = (qw(run --quiet --channel=unix), @{ $opt{run} // [] }, '--');
	my $r = run($host->cmd(@run, $opt{cmd} // $go), { stdin => join("\n", @_) . "\n", timeout => 120 });
	diag($r->{err}) if $r->{status} != 0;
	return split /\n/, $r->{out};
}
sub raw { my ($socket, @do) = @_; return split /\n/, run($raw, $socket, { stdin => join("\n", @do) . "\n" })->{out} }
sub encoded { return (raw('-', "encode @_"))[0] }
sub decoded { return (raw('-', 'decode ' . ($_[0] =~ s/^ok //r)))[0] }
sub data { return $_[0] =~ /^ok (\w+)/ ? $1 : diag($_[0]) && '-' }

# One that runs until it is let go on: {socket} is its path.
sub waiting {
	my (@then) = @_;
	my $go_on = "$dir/go" . $files++;
	my %before = map { $_ => 1 } sockets();
	my $p = spawn($host->cmd(qw(run --quiet --channel=unix --), $go),
		{ stdin => script('say ready', "wait $go_on", @then) });
	my $ready = $p->wait_for_line(qr/^ready$/m, 20);
	my ($socket) = grep { !$before{$_} } sockets();
	return { process => $p, socket => $socket, ready => $ready, go => sub { spew($go_on, ''); return $p->wait(30) } };
}

# --- how it finds its host

my ($env) = hosted('env');
my %env = map { split /=/, $_, 2 } split / /, $env;
my $own = qr{^\Q@{[ $host->dir ]}\E/run/programs/\d+\.sock$};
like(delete $env{CLOUDPROXY_TAO_HOST_SPEC}, $own, 'the environment has the path of its socket');
is_deeply(\%env, { CLOUDPROXY_TAO_HOST_CHANNEL_TYPE => 'unix', CLOUDPROXY_TAO_HOST_TYPE => 'stacked',
	CLOUDPROXY_TAO_HOSTED_TYPE => 'process', TAO_DOMAIN => $host->dir }, 'and what else CloudProxy looks for');
is(run($host->cmd(qw(run --quiet env)))->{out} =~ /^CLOUDPROXY|^TAO_DOMAIN/m, '', 'others get none of it');
ok(wait_for(sub { return !sockets() }, 20), 'a socket goes with its program');
fails_with([ $host->cmd(qw(run --env), "$_=x", 'true') ], qr/may not set \Q$_\E/, "--env $_ is refused")
    for qw(CLOUDPROXY_TAO_HOST_SPEC TAO_DOMAIN);
fails_with([ $host->cmd(qw(run --channel=pipe true)) ], qr/--channel/, 'another channel is refused');

# --- every call

my ($name) = hosted('name');
my $text = decoded($name);
like($text, qr/\.Measured\(\[\w{64}\], \[\w{64}\], $<\)\.PolicyKey\(\[\w{64}\]\)$/, 'GetTaoName');
my ($domain) = $text =~ /PolicyKey\(\[(\w+)\]/;

my @got = hosted('extend ' . encoded('subprin', ".PolicyKey([$domain])"), 'name',
	'extend ' . encoded('subprin', '.PolicyKey([' . '00' x 32 . '])'), 'extend ' . encoded('subprin', '.Mode("a")'), 'name');
is($got[0], 'ok', 'ExtendTaoName by the policy key of the domain succeeds');
is($got[1], $name, 'without effect');
like($got[2], qr/^err only a host gives a name the word PolicyKey/, 'by another key it is refused');
is($got[3], 'ok', 'by a word of its own it succeeds');
is(decoded($got[4]), "$text.Mode(\"a\")", 'and counts');

@got = hosted('random 1', 'random 4096', 'random 0', 'random -1');
like($got[0], qr/^ok \w{2}$/, 'GetRandomBytes: one');
like($got[1], qr/^ok \w{8192}$/, 'many');
like($got[$_], qr/^err ask for 1 to/, 'none, or fewer, are refused') for 2, 3;

@got = hosted(map { "secret 32 $_" } qw(self few any some self));
like($got[$_], qr/^ok \w{64}$/, 'GetSharedSecret') for 0 .. 2;
like($got[3], qr/^err the policy some is not known/, 'with a policy that there is not');
is($got[4], $got[0], 'the same again');
is(scalar keys %{ { map { $_ => 1 } @got[0 .. 2] } }, 3, 'another for each policy');

my $form = encoded('form', 'P(1)');
my $sub = encoded('prin', "$text.Sub(1)");
@got = hosted("attest - $form", "attest $sub $form 1000 4000000000000000000", 'attest ' . encoded('prin', 'key([70])') . " $form");
like((raw('-', 'verify ' . data($got[0])))[0], qr/ \| \Q$text\E \| P\(1\)$/, 'Attest, which verifies');
like((raw('-', 'verify ' . data($got[1])))[0], qr/ \| \Q$text\E\.Sub\(1\) \| P\(1\)$/, 'for a subprincipal');
like((raw('-', 'times ' . data($got[1])))[0], qr/1000 4000000000000000000/, 'with times');
like($got[2], qr/^err a program attests as itself/, 'for somebody else it is refused');

for my $policy (qw(self few any)) {
	my ($blob) = hosted("seal $policy 00ff");
	is((hosted('unseal ' . data($blob)))[0], "ok 00ff $policy", "Seal and Unseal: the policy is $policy again");
}
@got = hosted('seal self -', 'seal some 00', 'unseal 00', 'unseal -', 'name');
like($got[0], qr/^err there is no data to seal/, 'Seal of nothing is refused, for a reply without data is malformed');
like($got[$_], qr/^err \w/, 'so is what cannot be') for 1 .. 3;
is($got[4], $name, 'after which the connection is as good as before');

@got = hosted("counter c", "init c 5", "counter c", "init zero 0", "counter zero", "rseal c self 0102", "rseal c few 0304", "counter c");
like($got[0], qr/^err /, 'GetCounter without InitCounter is refused');
is_deeply([ @got[1 .. 4] ], [ 'ok', 'ok 5', 'ok', 'ok 0' ], 'InitCounter, GetCounter');
is($got[7], 'ok 7', 'which RollbackProtectedSeal counts on');
my ($old, $new) = map { data($_) } @got[5, 6];
@got = hosted("runseal $new", "runseal $old", "unseal $new");
is($got[0], 'ok 0304 few', 'RollbackProtectedSeal and RollbackProtectedUnseal');
like($got[$_], qr/^err /, 'the older is refused, and so is a way around the counter') for 1, 2;

@got = hosted('op Tao.Nothing', 'op Tao.ListKeys', 'op Host.Status', 'op Tao.Hello', 'name');
like($got[0], qr/^err this host has no operation Tao\.Nothing/, 'an operation that there is not');
like($got[$_], qr/^err \S+ is no operation of CloudProxy's/, 'and one that is none of CloudProxy\'s') for 1 .. 3;
is($got[4], $name, 'the next one is answered');

# --- what goes over the wire

my @head = ('0a0e54616f2e47657454616f4e616d65', '1000'); # op Tao.GetTaoName, seq 0
sub frame { my $hex = join '', @_; return sprintf('%08x', length($hex) / 2) . $hex }
@got = hosted('many 1000', 'mixed 30', 'pieces', 'name');
is_deeply(\@got, [ 'ok 1000', 'ok 30', $name, $name ], 'many requests at once are all answered, each by its number');
my %wrong = ('a length of 4 GB' => 'ffffffff', 'a header of 5000 bytes' => '00001388', 'no protocol buffer' => frame('ff') . frame(),
	'an empty header' => frame() . frame(), 'no number' => frame($head[0]) . frame(), 'no operation' => frame($head[1]) . frame(),
	'a body of 2 MB' => frame(@head) . '00200000');
is((hosted("raw $wrong{$_}"))[0], 'closed', "the connection ends: $_") for sort keys %wrong;
is_deeply([ hosted('raw ffffffff', 'connect', 'name') ], [ 'closed', $name ], 'a new one serves');
is((hosted('raw ' . frame(@head, '4801', '5204aaaaaaaa', '5d00000000', '610000000000000000') . frame('4801')))[0], 'open',
	'fields that the host does not know are no fault');

# --- as CloudProxy names programs

SKIP: {
	my $static = "$dir/static";
	run(config('CC') // 'cc', '-static', '-D_GNU_SOURCE', '-o', $static, srctop() . '/test/tool/goclient.c');
	skip('cannot link statically', 4) if !-x $static;
	my $exe = (split ' ', run('sha256sum', $static)->{out})[0];
	my @how = { cmd => $static, run => [ '--measure=program' ] };
	fails_with([ $host->cmd(qw(run --channel=unix --measure=program), $static) ], qr/SelfContained/, 'a static program needs a rule');
	ok_run([ $host->cmd(qw(policy add), "SelfContained([$exe])") ], 'which is added');
	like(decoded((hosted('name', @how))[0]), qr/\.Program\(\[$exe\]\)\.PolicyKey\(\[$domain\]\)$/, 'then its name is CloudProxy\'s');
	my ($blob) = hosted('seal few 07', @how);
	is((hosted('unseal ' . data($blob), @how))[0], 'ok 07 few', 'and it seals');
}

# --- who may use the socket

my $other = "$dir/other";
copy($go, $other) or die "$other: $!";
chmod 0755, $other;

my $w = waiting('name', 'fork name', 'anew name', 'connect', 'name');
is($w->{ready}, 'ready', 'a program runs, and has not connected yet');
@got = raw($w->{socket}, 'connect', 'call Tao.GetTaoName -', 'call Tao.Unseal -', 'call Tao.Hello -', 'call Host.Status -');
like($got[$_ + 1], qr/^err Tao\.\w+ 9 this socket is for \Q$go\E .*$NONE_OF/, 'another process is refused, although it came first') for 0, 1;
like($got[$_ + 1], qr/^err \S+ \d+ .*no operation of CloudProxy/, 'nor can it ask for something else') for 2, 3;
like((raw($w->{socket}, 'connect', 'open 100'))[-1], qr/\b100\b/, 'a hundred connections of others');
SKIP: {
	skip('needs root', 1) if $< != 0;
	my $r = run('setpriv', "--reuid=$NOBODY", "--regid=$NOBODY", '--clear-groups', $raw, $w->{socket},
		{ stdin => "connect\ncall Tao.GetTaoName -\n" });
	like($r->{out}, qr/^err Tao\.GetTaoName 9 .*$NONE_OF/m, 'so is another user');
}
is($w->{go}->(), 0, 'the program goes on');
@got = grep { !/^(?:ready|there)$/ } split /\n/, $w->{process}->log;
is($got[0], $name, 'its own connection is served');
is($got[1], 'closed', 'a child on its parent\'s connection is not, and ends it');
is($got[2], $name, 'on one of its own it is');
is($got[3], $name, 'and so is the parent on a new one');
ok(wait_for(sub { return !-e $w->{socket} }, 20), 'the socket is gone with the program');

@got = hosted("run $other " . script('name'), 'name');
like($got[0], qr/^err this socket is for .*$NONE_OF/, 'a child that executed another program is refused');
is($got[2], $name, 'while the program is served');
@got = hosted('name', 'keep', "run $other " . script('adopt', 'name'));
is($got[1], 'closed', 'so is another process that has its connection');
@got = hosted('name', 'keep', "exec $other " . script('adopt', 'name'));
like($got[1], qr/^err this socket is for .*$NONE_OF/, 'and what the program itself executes, on the same connection');
@got = hosted('name', 'keep', "exec $go " . script('adopt', 'name', 'connect', 'name'));
like($got[$_], qr/^err this socket is for .*$NONE_OF/, 'the same executable is another start') for 1, 2;
my $daemon = spawn($host->cmd(qw(run --quiet --channel=unix --), $go), { stdin => script(qw(name daemon connect name)) });
is(wait_for(sub { return $daemon->log =~ /^daemon\n(.+)\n/m && $1 }, 20), $name, 'a daemon is still the program');

# A request that is sent and then answered as what the process has become: the host is held up, so that
# the moment is there.
{
	my $taod = pid_of_taod();
	my $go_on = "$dir/go" . $files++;
	my $late = script('say executed', 'adopt', 'answer', 'name');
	my $p = spawn($host->cmd(qw(run --quiet --channel=unix --), $go),
		{ stdin => script('name', "wait $go_on", "run $other " . script('ask', 'keep', "exec $go $late")) });
	$p->wait_for_line(qr/^ok/m, 20);
	kill 'STOP', $taod;
	spew($go_on, '');
	my $executed = $p->wait_for_line(qr/^executed$/m, 20);
	kill 'CONT', $taod;
	is($executed, 'executed', 'another program asks and becomes the measured one while the host does not look');
	is($p->wait(30), 0, 'the host looks');
	my @answers = grep { /^err|^closed|^ok|^malformed/ } split /\n/, $p->log;
	is(scalar @answers, 3, 'there are its answers') or diag($p->log);
	like($answers[$_], qr/^err this socket is for .*$NONE_OF/, 'it is refused all the same') for 1, 2;
}

# --- when the host ends and comes back

my @pass = ('--passphrase-file', $host->passfile);
$w = waiting('connect', 'name', 'seal few 01');
my $taod = pid_of_taod();
kill 'KILL', $taod;
wait_for(sub { return !-e "/proc/$taod" || slurp("/proc/$taod/stat") =~ /\) Z / }, 20);
spew($host->dir . '/run/programs/4711.sock', '');
ok_run([ $host->cmd('up', @pass) ], 'the host is killed and starts again');
is_deeply([ sockets() ], [ $w->{socket} ], 'the program\'s socket is there again, and no other');
like((raw($w->{socket}, 'connect', 'call Tao.GetTaoName -'))[-1], qr/^err Tao\.GetTaoName 9 .*$NONE_OF/, 'others are refused as before');
is($w->{go}->(), 0, 'the program goes on');
@got = split /\n/, $w->{process}->log;
is($got[2], $name, 'it has its name');
like($got[3], qr/^ok \w+$/, 'and seals');
ok(wait_for(sub { return !sockets() }, 20), 'the socket is gone with the program');

done_testing();
