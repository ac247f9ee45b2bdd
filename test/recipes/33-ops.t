# What a program may have from its host beyond its name: sealing with label, expiry and epoch, shared
# secrets, counters and rollback protection; for whom each policy opens, and what survives what.
use strict;
use warnings;

use File::Copy qw(copy);
use JSON::PP;
use Test::More;
use TaoRaw;
use TaoTest;

# Numbers of enum tao_err.
use constant { OK => 0, EINVAL => 2, EFORMAT => 3, ELIMIT => 4, ENOTFOUND => 7, EEXIST => 8, EDENIED => 9,
	EPERM => 12, EALTERED => 17, EWRONGPROG => 18, EEXPIRED => 19 };

my $NOBODY = 65534;
my $MAX_DATA = 1_000_000;
my $MAX_SECRET = 4096;

my $dir = tmpdir();
my $host = start_host();
raw_use($host);
my $tao = bin('tao');
my @id = ('connect', 'identify');

# A program, another one, its upgrade, and an interpreter.
my $raw = tool('rawclient');
my %program = (other => "$dir/other", upgrade => "$dir/upgrade", script => "$dir/python3");
for my $name (sort keys %program) {
	copy($raw, $program{$name});
	spew($program{$name}, slurp($raw) . $name);
	chmod 0755, $program{$name};
}
sub sha256 { return (split ' ', run('sha256sum', $_[0])->{out})[0] }
my ($exe, $upgrade) = map { sha256($_) } $raw, $program{upgrade};
my $name = name_of((hosted(@id, 'call Tao.GetTaoName'))[-1]);
my ($domain) = $name =~ /PolicyKey\(\[(\w+)\]/;

sub as { my ($who, @commands) = @_; return run_as($program{$who}, undef, @id, @commands) }
sub me { return hosted(@id, @_) }
sub rule { ok_run([ $host->cmd('policy', $_[0], $_[1]) ], "policy $_[0] $_[1]") }
sub measured { return "key([$domain]).Measured([$_[0]], _, _)" }
sub restart {
	my $pid = decode_json($host->tao(qw(--json status))->{out})->{pid};
	kill 'KILL', $pid;
	ended($pid);
	ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], 'the host is killed and starts again');
}

# Fields: data 1, size 2, policy 3, expiration 5, label 7, counter 8, prepare 16. Answers: data 1, policy
# 2, counter 3, epoch 16, host_epoch 17, label 18, expiration 19.
sub sealing {
	my (%o) = @_;
	return join '', defined $o{data} ? field(1, $o{data}) : (), defined $o{policy} ? field(3, $o{policy}) : (),
	    defined $o{expires} ? number(5, $o{expires}) : (), defined $o{label} ? field(7, $o{label}) : (),
	    $o{prepare} ? number(16, 1) : ();
}
sub seal { return call('Tao.Seal', sealing(@_)) }
sub unseal { return call('Tao.Unseal', field(1, $_[0]), defined $_[1] ? field(7, $_[1]) : ()) }
sub secret {
	my ($n, $policy, $label) = @_;
	return call('Tao.GetSharedSecret', number(2, $n), defined $policy ? field(3, $policy) : (),
		defined $label ? field(7, $label) : ());
}
sub init { return call('Tao.InitCounter', field(7, $_[0]), number(8, $_[1])) }
sub get { return call('Tao.GetCounter', field(7, $_[0])) }
sub rseal { my ($label, $data, @o) = @_; return call('Tao.RollbackProtectedSeal', sealing(label => $label, data => $data, @o)) }
sub runseal { return call('Tao.RollbackProtectedUnseal', field(1, $_[0])) }
sub blob { return parse($_[-1])->{1} // '' }
sub is_counter { return is(parse($_[0])->{3}, $_[1], $_[2]) }
sub keys_of { return join ' ', sort { $a <=> $b } keys %{ parse($_[0]) } }

# --- answers have what CloudProxy's clients want, and nothing else that they know

my @l = me(seal(data => 'x'), secret(8), init('answers', 0), get('answers'), rseal('answers', 'x'),
	call('Tao.ExtendTaoName', field(1, encoded('subprin', '.A(1)'))), call('Tao.GetRandomBytes', number(2, 4)), 'call Tao.GetTaoName');
my @known = map { join ' ', grep { $_ < 16 } split ' ', keys_of($_) } @l[ 2 .. $#l ];
is_deeply(\@known, [ 1, 1, '', 3, 1, '', 1, 1 ], 'data, counter or nothing');
is((me(unseal(blob($l[2]))))[-1] =~ /^ok/ ? keys_of((me(unseal(blob($l[2]))))[-1]) : 0, '1 2 16 17', 'data and policy');

# --- policies of sealing

rule('add', "Unseal(@{[measured($exe)]}, \"db\")");
rule('add', "Unseal(@{[measured(sha256($program{other}))]}, \"db\")");
rule('add', "Unseal(@{[measured(sha256($program{script}))]}, \"scripts\")");
my %blob = map { $_ => blob(me(seal(data => "for $_", policy => $_, label => 'db'))) }
    qw(self few any exact program host policy);
my %opens = (self => [ 0, 0 ], exact => [ 0, 0 ], few => [ 0, 0 ], program => [ 0, 0 ], any => [ 1, 1 ], host => [ 1, 1 ],
	policy => [ 1, 0 ]);
for my $word (sort keys %blob) {
	my $got = parse((me(unseal($blob{$word})))[-1]);
	is($got->{1}, "for $word", "$word: the program itself unseals it");
	is($got->{2}, $word, 'with the word that was used');
	my ($other, $script) = @{ $opens{$word} };
	my $no = $word eq 'policy' || $word =~ /few|program/ ? EDENIED : EWRONGPROG;
	answers($other ? OK : EWRONGPROG, "$word: another program", as('other', unseal($blob{$word})));
	answers($script ? OK : $no, "$word: a script", as('script', unseal($blob{$word})));
}
answers(EINVAL, 'policy needs a label', me(seal(data => 'x', policy => 'policy')));
answers(EDENIED, 'and a rule', me(seal(data => 'x', policy => 'policy', label => 'elsewhere')));
answers(EDENIED, 'of that label', me(seal(data => 'x', policy => 'policy', label => 'scripts')));
rule('add', "Unseal(@{[measured($exe)]}, \"key:web\")");
answers(EDENIED, 'not of a label that is a key\'s, whatever the rules say', me(seal(data => 'x', policy => 'policy', label => 'key:web')));
answers(EDENIED, 'nor a secret', me(secret(32, 'policy', 'key:web')));
answers(OK, 'which only the policy minds', me(seal(data => 'x', label => 'key:web')));
answers(OK, 'a script with a rule', as('script', seal(data => 'x', policy => 'policy', label => 'scripts')));
answers(EDENIED, "an interpreter seals nothing for all scripts: $_", as('script', seal(data => 'x', policy => $_)))
    for qw(program few);
answers(OK, "but $_", as('script', seal(data => 'x', policy => $_))) for qw(exact host);
rule('remove', "Unseal(@{[measured(sha256($program{other}))]}, \"db\")");
answers(EDENIED, 'when the rule is gone', as('other', unseal($blob{policy})));
answers(EWRONGPROG, 'a new version is another program', as('upgrade', unseal($blob{program})));
rule('add', "Successor([$upgrade], [$exe])");
answers(OK, 'unless a rule names it the successor', as('upgrade', unseal($blob{program})));
answers(EWRONGPROG, 'not of the exact name', as('upgrade', unseal($blob{exact})));
my $newer = blob(as('upgrade', seal(data => 'x', policy => 'program')));
answers(EWRONGPROG, 'and not backwards', me(unseal($newer)));

# --- label, expiry, malformed requests

my $got = parse((me(unseal($blob{host}, 'db')))[-1]);
is($got->{18}, 'db', 'the label comes back');
answers(EDENIED, 'another label than the one that is asked for', me(unseal($blob{host}, 'web')));
answers(EDENIED, 'none where one is asked for', me(unseal(blob(me(seal(data => 'x'))), 'db')));
my $soon = (int(time) + 3600) * 10**9;
my $expiring = blob(me(seal(data => 'x', expires => $soon)));
is(parse((me(unseal($expiring)))[-1])->{19}, $soon, 'what expires in an hour opens, and says when');
answers(EINVAL, 'what would have expired is not sealed', me(seal(data => 'x', expires => (time - 5) * 10**9)));
answers(EINVAL, 'nor with a negative time', me('call Tao.Seal 0a01782880808080808080808001'));
my $brief = blob(me(seal(data => 'x', expires => (time + 2) * 10**9)));
ok(wait_for(sub { return code((me(unseal($brief)))[-1]) == EEXPIRED }, 20), 'what expires in two seconds opens no more after them');
answers(EINVAL, 'nothing is not sealed', me(seal(data => '')));
answers(EINVAL, 'nor no data', me(seal()));
answers(EINVAL, 'a policy that is none', me(seal(data => 'x', policy => 'some')));
answers(EINVAL, 'an empty label', me(seal(data => 'x', label => '')));
answers(OK, 'a label of 256 bytes', me(seal(data => 'x', label => 'l' x 256)));
answers(EINVAL, 'one of 257', me(seal(data => 'x', label => 'l' x 257)));
answers(EINVAL, 'with a newline', me(seal(data => 'x', label => "a\nb")));
answers(EFORMAT, 'a field of another type', me('call Tao.Seal 0801'));
my $longest = unpack 'H*', sealing(label => 'l' x 256);
my @big = me(sprintf "call Tao.Seal ${longest}0a%s61*%d", unpack('H*', "\xc0\x84\x3d"), $MAX_DATA);
answers(OK, 'as much as there may be, with the longest label', @big);
is(length blob(me(unseal(blob(@big)))), $MAX_DATA, 'is unsealed again');
answers(ELIMIT, 'one byte more', me(sprintf 'call Tao.Seal 0a%s61*%d', unpack('H*', "\xc1\x84\x3d"), $MAX_DATA + 1));

# --- shared secrets

sub secret_of { return unpack('H*', blob(@_)) }
my %secret = map { $_ => secret_of(me(secret(32, $_))) } qw(self few any exact program host);
is($secret{self}, $secret{exact}, 'self is exact');
is($secret{few}, $secret{program}, 'few is program');
is($secret{any}, $secret{host}, 'any is host');
isnt($secret{exact}, $secret{program}, 'the policies differ');
isnt($secret{program}, $secret{host}, 'each');
is(secret_of(me(secret(32))), $secret{exact}, 'without a word it is exact');
is(secret_of(me(secret(32, $_))), $secret{$_}, "$_: the same again") for qw(exact program host);
isnt(secret_of(me(secret(32, $_, 'label'))), $secret{$_}, "$_: another with a label") for qw(exact program host);
is(secret_of(as('other', secret(32, 'host'))), $secret{host}, 'host: every program has the same');
isnt(secret_of(as('other', secret(32, $_))), $secret{$_}, "$_: another program has another") for qw(exact program);
isnt(secret_of(me(call('Tao.ExtendTaoName', field(1, encoded('subprin', '.A(1)'))), secret(32, 'exact'))), $secret{exact},
	'exact: so has an extended name');
is(secret_of(me(call('Tao.ExtendTaoName', field(1, encoded('subprin', '.A(1)'))), secret(32, 'program'))), $secret{program},
	'program: which is still the same program');
answers(EDENIED, 'an interpreter has none for all scripts', as('script', secret(32, 'program')));
answers(OK, 'but its own', as('script', secret(32, 'exact')));
rule('add', "Unseal(@{[measured($upgrade)]}, \"db\")");
is(secret_of(me(secret(32, 'policy', 'db'))), secret_of(as('upgrade', secret(32, 'policy', 'db'))),
	'policy: whom the rules let unseal the label');
answers(EDENIED, 'nobody else', as('other', secret(32, 'policy', 'db')));
answers(EINVAL, 'not without a label', me(secret(32, 'policy')));
is(length blob(me(secret($MAX_SECRET))), $MAX_SECRET, "$MAX_SECRET bytes");
is(substr(secret_of(me(secret($MAX_SECRET, 'host'))), 0, 64), $secret{host}, 'fewer are their beginning');
answers(ELIMIT, "$_ bytes", me(secret($_))) for 0, $MAX_SECRET + 1, 0x7fffffff;
answers(ELIMIT, 'no number', me('call Tao.GetSharedSecret'));
answers(ELIMIT, 'a negative one', me('call Tao.GetSharedSecret 10ffffffffffffffffff01'));
answers(EINVAL, 'a policy that is none', me(secret(32, 'some')));
answers(EINVAL, 'a label that is none', me(secret(32, 'host', '')));

# --- counters

answers(ENOTFOUND, 'a counter that is not', me(get('state')));
@l = me(init('state', 3), get('state'), init('state', 1), get('state'), init('state', 8), get('state'));
is_counter($l[3], 3, 'a counter is made');
is_counter($l[5], 3, 'never lowered');
is_counter($l[7], 8, 'but raised');
is_counter((me(call('Tao.ExtendTaoName', field(1, encoded('subprin', '.A(1)'))), get('state')))[-1], 8, 'the program has it under any name');
answers(ENOTFOUND, 'another program has not', as('other', get('state')));
answers(ENOTFOUND, 'nor a script', as('script', get('state')));
answers(OK, 'which has its own', as('script', init('state', 1), get('state')));
answers(ENOTFOUND, 'under its whole name, which another script has not',
	as('script', call('Tao.ExtendTaoName', field(1, encoded('subprin', '.A(1)'))), get('state')));
answers(EINVAL, 'below 0', me('call Tao.InitCounter 3a017840ffffffffffffffffff01'));
answers(EINVAL, 'without a number', me(call('Tao.InitCounter', field(7, 'x'))));
answers(EINVAL, 'without a label', me(call('Tao.InitCounter', number(8, 1))));
answers(EINVAL, "with the label '" . substr($_, 0, 5) . "'", me(init($_, 1))) for '', 'l' x 257, "a\tb";
answers(EINVAL, 'no label to get', me('call Tao.GetCounter'));

my @seals = me(init('roll', 0), map { rseal('roll', "state $_") } 1 .. 3);
my @state = map { blob($_) } @seals[ 3 .. 5 ];
is_counter((me(get('roll')))[-1], 3, 'each seal raises the counter');
is(blob(me(runseal($state[2]))), 'state 3', 'the newest opens');
is(parse((me(runseal($state[2])))[-1])->{2}, 'self', 'with its policy');
answers(EDENIED, 'those before it do not', me(runseal($_))) for @state[ 0, 1 ];
answers(EFORMAT, 'nor by a plain Unseal', me(unseal($_))) for @state;
answers(EFORMAT, 'a plain blob is none with a counter', me(runseal($blob{$_}))) for qw(host self);
answers(ENOTFOUND, 'no counter, no blob', me(rseal('never', 'x')));
answers(EINVAL, 'no label, no blob', me(call('Tao.RollbackProtectedSeal', sealing(data => 'x'))));
answers(EINVAL, 'no data', me(rseal('roll', '')));
answers(EINVAL, 'no such policy', me(rseal('roll', 'x', policy => 'some')));
answers(EDENIED, 'a policy that is not open to it', me(rseal('roll', 'x', policy => 'policy')));
is_counter((me(get('roll')))[-1], 3, 'what is refused does not count');
answers(EFORMAT, 'what is no blob', me(runseal('x')));
my $bad = $state[2];
substr($bad, 5, 1) = "\2";
answers(EALTERED, 'its kind cannot be changed', me(unseal($bad)));

# Blobs of others, whatever their policy.
my $theirs = (as('other', init('roll', 0), rseal('roll', 'theirs', policy => 'host')))[-1];
answers(EWRONGPROG, 'a blob of another program\'s counter, for any program', me(runseal(blob($theirs))));
answers(EWRONGPROG, 'nor the other way round', as('other', runseal(blob(me(init('open', 0), rseal('open', 'x', policy => 'host'))))));

# In two steps.
@l = me(init('two', 0), rseal('two', 'old'), rseal('two', 'lost', prepare => 1), rseal('two', 'new', prepare => 1), get('two'));
my ($old, $lost, $new) = map { blob($_) } @l[ 3 .. 5 ];
is_counter($l[5], 3, 'a prepared blob says its number');
is_counter($l[6], 1, 'and the counter stays');
is(blob(me(runseal($old))), 'old', 'the former blob opens');
answers(EDENIED, 'the prepared one does not', me(runseal($new)));
restart();
is(blob(me(runseal($old))), 'old', 'still so');
answers(OK, 'until the counter is raised', me(init('two', 3)));
restart();
is(blob(me(runseal($new))), 'new', 'then it opens');
answers(EDENIED, 'and the former not', me(runseal($old)));
answers(EDENIED, 'nor what was prepared before', me(runseal($lost)));

# --- restarts and upgrades

is(blob(me(runseal($state[2]))), 'state 3', 'after kill -9 the newest opens');
answers(EDENIED, 'and what was old is', me(runseal($state[1])));
is_counter((me(get('state')))[-1], 8, 'counters are as they were');
is(secret_of(me(secret(32, 'host'))), $secret{host}, 'secrets are the same');
my $handed = blob(me(init('hand', 0), rseal('hand', 'handed on', policy => 'program')));
is(blob(as('upgrade', runseal($handed))), 'handed on', 'a successor has the counters of its predecessor');
answers(OK, 'and goes on with them', as('upgrade', rseal('hand', 'x', policy => 'program')));
answers(EWRONGPROG, 'so that the former is out', me(runseal($handed)));
answers(EWRONGPROG, 'for good', me(init('hand', 0), runseal($handed)));

# --- limits

@l = as('script', map { init("label $_", 0) } 1 .. 64);
is(scalar(grep { code($_) == ELIMIT } @l), 1, 'a program has 64 counters, the one before included');
answers(ELIMIT, 'and no more', $l[-1]);

# --- other users

SKIP: {
	skip 'other users: only root can be one', 1 if $<;
	skip 'other users: setpriv is not there', 1 if !-x '/usr/bin/setpriv';
	skip 'other users: they cannot reach the build tree', 1
	    if run('setpriv', "--reuid=$NOBODY", "--clear-groups", 'test', '-x', $raw)->{status} != 0;
	my $as = sub { return run_as($raw, $NOBODY, @id, @_) };
	answers($_ =~ /any|host|policy/ ? OK : EWRONGPROG, "$_: another user", $as->(unseal($blob{$_}))) for sort keys %blob;
	isnt(secret_of($as->(secret(32, $_))), $secret{$_}, "$_: another user has another secret") for qw(exact program);
	is(secret_of($as->(secret(32, 'host'))), $secret{host}, 'but that of the host');
	answers(ENOTFOUND, 'no counter of another user', $as->(get('state')));
	answers(EWRONGPROG, 'nor what is sealed with it', $as->(runseal($state[2])));
	my $outside = sub {
		return (split /\n/, run('setpriv', "--reuid=$NOBODY", '--clear-groups', $raw, $host->dir . '/run/tao.sock',
			{ stdin => "connect\ncall $_[0]\n" })->{out})[-1];
	};
	answers(EPERM, "$_ is the owner's", $outside->($_)) for qw(Host.Epoch Host.Counters);
}

# --- epochs

my $key = 'tls-key';
ok_run([ $host->cmd('key', 'new', $key, '--for', $raw) ], 'a key of the first epoch');
my $stub = slurp($host->dir . "/keys/$</$key.pem");
is($host->tao(qw(host epoch))->{out} =~ /^epoch\s+1:/m, 1, 'the host is in its first epoch');
ok_run([ $host->cmd(qw(host epoch --new)) ], 'a new one begins');
my $second = (me(seal(data => 'second')))[-1];
is(parse($second)->{16}, 2, 'what is sealed says its epoch');
is(blob(me(unseal($blob{host}))), 'for host', 'what was sealed before opens');
my $told = parse((me(unseal($blob{host})))[-1]);
is("$told->{16} $told->{17}", '1 2', 'and says that it is of an older one');
answers(OK, 'the key works', me(call('Tao.GetKey', field(1, $key))));
restart();
is(decode_json($host->tao(qw(--json host epoch))->{out})->{epoch}, 2, 'a restart stays in the epoch');
answers(OK, 'the key still works', me(call('Tao.GetKey', field(1, $key))));
fails_with([ $host->cmd(qw(host epoch --retire 2)) ], qr/begin a new one/, 'the current epoch is not retired');
ok_run([ $host->cmd(qw(host epoch --retire 1)) ], 'the first one is');
answers(EEXPIRED, 'what was sealed in it does not open', me(unseal($blob{host})));
answers(EEXPIRED, 'nor with a counter', me(runseal($state[2])));
is(blob(me(unseal(blob($second)))), 'second', 'what was sealed later does');
answers(EEXPIRED, 'the key, which the host had open, is refused', me(call('Tao.GetKey', field(1, $key))));
like($host->tao('key', 'list')->{out}, qr/epoch, 1, is retired/, 'tao key list says so');
is_deeply([ map { $_->{retired} } @{ decode_json($host->tao(qw(--json key list))->{out}) } ], [ JSON::PP::true ], 'also as JSON');
is(slurp($host->dir . "/keys/$</$key.pem"), $stub, 'its stub is untouched');
is_counter((me(get('state')))[-1], 8, 'counters are not sealed data: they stay');
restart();
answers(EEXPIRED, 'after a restart, too', me(unseal($blob{host})));
answers(EEXPIRED, 'the key as well', me(call('Tao.GetKey', field(1, $key))));
is(run($host->cmd(qw(host epoch --retire 0)))->{status}, 2, 'there is no epoch 0');
is_counter((me(get('state')))[-1], 8, 'the table of counters opens in the new epoch');

# --- commands

sub in_run { return ($host->cmd('run', '--', $tao, @_)) }
my $sealed = decode_json(ok_run([ in_run(qw(--json seal --policy program --label db --expires 1h --out), "$dir/blob") ],
	'tao seal', { stdin => 'data' })->{out});
is($sealed->{epoch}, 2, 'tells the epoch');
is($sealed->{bytes}, -s "$dir/blob", 'and the size');
is(ok_run([ in_run('unseal', '--label', 'db', "$dir/blob") ], 'tao unseal')->{out}, 'data', 'gives it back');
fails_with([ in_run('unseal', '--label', 'web', "$dir/blob") ], qr/another label, "db"/, 'not under another label');
my $shown = decode_json(ok_run([ in_run('--json', 'unseal', '--show-policy', "$dir/blob") ], 'tao unseal --show-policy')->{out});
is("$shown->{policy} $shown->{label} $shown->{epoch} $shown->{host_epoch}", 'program db 2 2', 'shows what there is to know');
cmp_ok(abs($shown->{expires} / 1e9 - time - 3600), '<', 100, 'the time as well');
is(run(in_run('seal', '--expires', $_), { stdin => 'x' })->{status}, 2, "--expires '$_' is wrong usage")
    for '', '0', '-1', '5x', 'h', '1.5h', '99999999999999999d';
is(run(in_run(qw(--json seal)), { stdin => 'x' })->{status}, 2, 'JSON needs --out');
is(run(in_run(qw(seal --prepare --out), "$dir/x"), { stdin => 'x' })->{status}, 2, '--prepare needs --rollback');
fails_with([ in_run('seal') ], qr/no data to seal/, 'an empty file is not sealed');
fails_with([ in_run('seal', '--policy', 'policy') ], qr/needs a label/, 'policy needs a label', { stdin => 'x' });

fails_with([ in_run('counter', 'get', 'cmd') ], qr/tao counter init/, 'no counter yet');
ok_run([ in_run('counter', 'init', 'cmd') ], 'tao counter init');
is(ok_run([ in_run('counter', 'get', 'cmd') ], 'tao counter get')->{out}, "0\n", 'it begins with 0');
ok_run([ in_run('counter', 'init', 'cmd', 5) ], 'tao counter init LABEL N');
is(decode_json(ok_run([ in_run(qw(--json counter get cmd)) ], 'tao --json counter get')->{out})->{counter}, 5, 'raises it');
is(run(in_run('counter', 'init', 'cmd', $_))->{status}, 2, "'$_' is no counter") for '-1', 'x', '9223372036854775808';
my @roll = qw(seal --policy program --rollback cmd --out);
ok_run([ in_run(@roll, "$dir/$_") ], "tao seal --rollback $_", { stdin => "roll $_" }) for 1, 2;
is(ok_run([ in_run(qw(unseal --rollback), "$dir/2") ], 'tao unseal --rollback')->{out}, 'roll 2', 'opens the newest');
fails_with([ in_run(qw(unseal --rollback), "$dir/1") ], qr/not the newest under "cmd"/, 'not the one before');
fails_with([ in_run('unseal', "$dir/2") ], qr/--rollback/, 'without the option it says which');
fails_with([ in_run('unseal', spew("$dir/text", 'x' x 300)) ], qr/nothing that was sealed/, 'what was not sealed is another matter');
is(ok_run([ in_run(qw(seal --policy program --rollback cmd --prepare --out), "$dir/3") ], 'tao seal --prepare', { stdin => 'roll 3' })->{out},
	"8\n", 'prints the number');
fails_with([ in_run(qw(unseal --rollback), "$dir/3") ], qr/raise it first/, 'it is not open yet');
ok_run([ in_run(qw(counter init cmd 8)) ], 'until the counter is raised');
is(ok_run([ in_run(qw(unseal --rollback), "$dir/3") ], 'and it opens')->{out}, 'roll 3', 'as it was');
my @secrets = map { ok_run([ in_run('secret', '--policy', 'program', @$_, 16) ], "tao secret @$_")->{out} }
    [], [], [ '--label', 'a' ], [ '--label', 'b' ];
ok($secrets[0] eq $secrets[1] && $secrets[0] ne $secrets[2] && $secrets[2] ne $secrets[3], 'each label has its secret');

# --- a program that hosts plug-ins attests for them

@l = hosted(@id, call('Tao.Attest', field(1, encoded('form', 'Fine(1)')), field(6, encoded('prin', "$name.Plugin(\"a\").Part(2)"))));
answers(OK, 'a program attests for its plug-ins', @l);
answers(EDENIED, 'not for another program\'s', hosted(@id, call('Tao.Attest', field(1, encoded('form', 'Fine(1)')),
	field(6, encoded('prin', $name =~ s/Measured\(\[..../Measured([0000/r . '.Plugin("a")')))));

# --- the table of counters

my ($mine) = grep { $_->{label} eq 'cmd' } @{ decode_json(ok_run([ $host->cmd(qw(--json host counters)) ], 'tao host counters')->{out}) };
is("$mine->{uid} $mine->{owner} $mine->{counter}", "$< program 8", 'lists them');
ok_run([ $host->cmd('host', 'counters', '--remove', $mine->{id}) ], 'one is removed');
fails_with([ in_run(qw(counter get cmd)) ], qr/has no counter/, 'and gone');
fails_with([ in_run(qw(unseal --rollback), "$dir/3") ], qr/is gone/, 'with what was sealed with it');
fails_with([ $host->cmd('host', 'counters', '--remove', $mine->{id}) ], qr/no counter of that id/, 'once');
fails_with([ $host->cmd(qw(host counters --new)) ], qr/has its counters/, 'there is no new table where there is one');
my $last = blob(me(init('last', 0), rseal('last', 'x')));
my $table = $host->dir . '/host/counters';
my $kept = slurp($table);
my %broken = ('is missing' => undef, 'cannot be read' => substr($kept, 0, 100));
for my $how (sort keys %broken) {
	ok_run([ $host->cmd('down') ], 'the host is down');
	unlink $table;
	spew($table, $broken{$how}) if defined $broken{$how};
	ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], "it starts when its table $how");
	answers(EALTERED, 'counters are refused', me($_)) for get('state'), init('state', 0), rseal('state', 'x'), runseal($last);
	answers(OK, 'sealing is not', me(seal(data => 'x')));
	like($host->tao('status')->{out}, qr/warning.*$how.*counters --new/, 'tao status says it');
	is(-e $table ? slurp($table) : undef, $broken{$how}, 'the file is left as it is');
}
fails_with([ $host->cmd(qw(host counters)) ], qr/counters --new/, 'there is nothing to list');
ok_run([ $host->cmd(qw(host counters --new)) ], 'the owner makes a new one');
answers(ENOTFOUND, 'which is empty', me(get('state')));
answers(ENOTFOUND, 'old blobs do not open by it', me(init('last', 1), runseal($last)));
is((stat $table)[2] & 0777, 0600, 'it is for the host alone');

$host->down;
unlike(slurp($host->dir . '/taod.log'), qr/Sanitizer|runtime error/, 'without complaints');

done_testing();
