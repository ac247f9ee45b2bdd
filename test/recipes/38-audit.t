# The audit log: what is recorded, that nobody changes it unnoticed, who reads
# it; and tao ps, stop and kill.
use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use File::Copy qw(copy);
use JSON::PP;
use Test::More;
use TaoTest;

my $NOBODY = 65534;
my $MAX = 4096; # audit_size: the least, so that files are many

my $dir = tmpdir();
my $host = start_host();
my $log = $host->dir . '/audit';
my $tao = bin('tao');
my $keyuse = tool('keyuse');
my @pass = ('--passphrase-file', $host->passfile);

sub lines { my ($file) = @_; return split /\n/, slurp($file) }
sub records { return map { decode_json($_) } map { lines($_) } sort(glob "$log/0*.log"), "$log/current.log" }

# The records of an event, once there are that many.
sub recorded {
	my ($event, $n) = @_;
	my @got;
	wait_for(sub { @got = grep { $_->{event} eq $event } records(); return @got >= ($n // 1) }, 10);
	return @got;
}

# --- the chain, without tao

my @all = records();
is($all[0]{event}, 'file', 'a file begins with what it is');
is($all[0]{prev}, '0' x 64, 'the first record follows nothing');
my ($start) = recorded('start');
is($start->{after}, 'nothing', 'the host started for the first time');
like($start->{host}, qr/^key\(\[[0-9a-f]{64}\]\)/, 'it says who it is');
my $key = substr $start->{host}, 0, 71;
is(sprintf('%o', (stat "$log/current.log")[2] & 0777), '640', 'others do not read the files');
is(sprintf('%o', (stat $log)[2] & 0777), '750', 'nor list them');

# --- what is recorded

sub in_sh {
	my ($script) = @_;
	return $host->tao('run', '--quiet', '--name', 'script', '/bin/sh', '-c', $script, { dir => $dir });
}
sub fact { return 'Revoked([' . $_[0] x 32 . '])' }
my $fact = fact('00');
spew("$dir/data", "data\n");
ok_run([ $host->cmd('key', 'new', 'web', '--for', $keyuse) ], 'a key');
ok_run([ $host->cmd('trust', $keyuse, '--serves', 'localhost') ], 'trust');
ok_run([ $host->cmd('policy', 'add', $fact) ], 'a fact');
ok_run([ $host->cmd('policy', 'remove', $fact) ], 'that is taken back');
fails_with([ $host->cmd('policy', 'add', 'Nonsense(') ], qr/column 10: expected a term/, 'no fact');
is(in_sh("$tao extend 'More(1)' && $tao attest --out att 'P(\"said\")' && $tao seal --policy host --out blob data && " .
	"$tao unseal --out clear blob && $tao seal --out exact data && ! $tao extend 'Program([00])'")->{status}, 0,
	'a script');
is($host->tao(qw(run --quiet /bin/sh -c), "! $tao unseal --out no exact", { dir => $dir })->{status}, 0, 'and another one');
is($host->tao('run', '--quiet', $keyuse, 'tao:web', 1, 1, 50)->{status}, 0, 'signatures');
my $stranger = run($tao, qw(name), { env => { TAO_SOCKET => $host->dir . '/run/tao.sock' } });
like($stranger->{err}, qr/^tao name: tao speaks here for the program that starts it/, 'a process that was not started with tao run');

my ($new) = recorded('Host.NewKey');
is_deeply([ @$new{qw(key policy for uid result)} ], [ 'web', 'program', $keyuse, $<, 'ok' ], 'the key');
my @rules = recorded('rule', 3);
like($rules[0]{added}, qr/^Installed\(.*"\Q$keyuse\E"\)$/, 'the rules');
like($rules[1]{added}, qr/^TrustedProgram\(/, 'of what is there');
like($rules[2]{added}, qr/^Serves\(.*"localhost"\)$/, 'of the trust');
is((recorded('Host.Trust'))[0]{path}, $keyuse, 'for a program');
my @facts = recorded('Host.AddFact', 2);
is($facts[0]{fact}, $fact, 'the fact');
ok($facts[1]{result} ne 'ok' && length $facts[1]{why}, 'a refusal has its reason');
is((recorded('Host.RemoveFact'))[0]{fact}, $fact, 'and its end');
my @runs = recorded('Host.Run', 3);
is_deeply([ @{ $runs[0] }{qw(path label uid result)} ], [ '/bin/sh', 'script', $<, 'ok' ], 'the run');
like($runs[0]{program}, qr/^\Q$start->{host}\E\.Measured\(.*\Q.PolicyKey([\E[0-9a-f]{64}\]\)$/, 'with its principal');
my @extends = recorded('Tao.ExtendTaoName', 2);
is_deeply([ @{ $extends[0] }{qw(with result instance)} ], [ '.More(1)', 'ok', $runs[0]{instance} ], 'the extension');
like($extends[0]{program}, qr/\.More\(1\)$/, 'and who that is now');
is($extends[1]{result}, 'denied', 'one that is refused');
is((recorded('Tao.Attest'))[0]{says}, 'P("said")', 'the statement');
my @seals = recorded('Tao.Seal', 2);
is_deeply([ map { $_->{policy} } @seals ], [ qw(host exact) ], 'what was sealed, by policy');
my @unseals = recorded('Tao.Unseal', 2);
is_deeply([ map { @$_{qw(policy result)} } @unseals ], [ qw(host ok exact wrong_program) ], 'and unsealed, or not');
is_deeply([ @{ (recorded('certificate'))[0] }{qw(key result)} ], [ 'web', 'ok' ], 'the certificate');
my @used = recorded('used');
my @first = recorded('Tao.Sign');
is(scalar @first, 1, 'the first signature has a record');
is_deeply([ @{ $first[0] }{qw(key path result)} ], [ 'web', $keyuse, 'ok' ], 'with its key');
is($used[-1]{key}, 'web', 'the others are counted');
cmp_ok($used[-1]{all}, '>=', 50, 'all of them');
is($used[-1]{n}, $used[-1]{all} - 1, 'but for the first');
is(scalar(recorded('end', 3)), 3, 'the end of each');
like((recorded('Tao.Prove'))[0]{result}, qr/^not_run$/, 'who is refused a name');
ok(!(grep { /data\n|ZGF0YQ|64617461/ } map { encode_json($_) } grep { $_->{event} ne 'checkpoint' } records()), 'no data');

my @files = (sort(glob "$log/0*.log"), "$log/current.log");
my ($prev, $seq, $broken) = ('0' x 64, 0, 0);
for my $line (map { lines($_) } @files) {
	my $r = decode_json($line);
	$broken++ if $r->{prev} ne $prev || $r->{seq} != ++$seq || $r->{time} !~ /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
	$prev = sha256_hex($line);
}
is($broken, 0, 'the chain is SHA-256 over lines');
cmp_ok($seq, '>=', 20, 'of which there are some');

# --- tao log

sub shown { return split /\n/, $host->tao('log', @_)->{out} }
my $r = ok_run([ $host->cmd('log') ], 'tao log');
like($r->{out}, qr/^\d{4}-\S+ script\[\d+\]: Tao\.Seal policy=host: ok$/m, 'is for people');
like($r->{out}, qr/: Tao\.Unseal policy=exact: wrong_program: ./, 'with reasons');
unlike($r->{out}, qr/prev|signature/, 'without what only programs need');
is(scalar(shown(3)), 3, 'the last three');
is(scalar(shown('--since', '1d')), scalar(shown()), 'those of a day');
is(scalar(shown('--since', '2200-01-01')), 0, 'none of the future');
is_deeply([ map { decode_json($_)->{seq} } split /\n/, $host->tao('--json', 'log')->{out} ], [ 1 .. scalar records() ],
	'--json gives them all, as they are');
fails_with([ $host->cmd('log', '--since', 'soon') ], qr/'soon' is no time/, 'no time');
fails_with([ $host->cmd('log', '0') ], qr/N/, 'no number');
{
	my $follow = spawn($host->cmd('log', '--follow', 1));
	ok($follow->wait_for_line(qr/./, 10), '--follow shows the last');
	ok_run([ $host->cmd('policy', 'add', fact('aa')) ], 'something happens');
	ok($follow->wait_for_line(qr/Host\.AddFact fact=Revoked\(\[aaaa/, 10), 'and what comes');
	is($follow->stop('INT'), 0, 'and ends when interrupted');
}

# --- verify

$r = ok_run([ $host->cmd('log', 'verify') ], 'tao log verify');
like($r->{out}, qr/^host +the running one$/m, 'with the key of the running host');
like($r->{out}, qr/^signed .* by \Q$key\E$/m, 'that signed');
ok_run([ $host->cmd('log', 'verify', '--host', $start->{host}) ], 'or one that is told');
fails_with([ $host->cmd('log', 'verify', '--host', 'key([' . '0' x 64 . '])') ], qr/^tao log verify: record 3 is signed by another key/,
	'another host');
is($host->tao('log', 'verify', '--host', 'key(')->{status}, 2, 'no host');
SKIP: {
	skip 'needs root', 5 if $< != 0;
	my @as = ('setpriv', "--reuid=$NOBODY", "--regid=$NOBODY", '--clear-groups');
	is(run(@as, $host->cmd('run', '--quiet', '/bin/true'))->{status}, 0, 'another user runs a program');
	recorded('end', 4);
	my @theirs = split /\n/, run(@as, $host->cmd('--json', 'log'))->{out};
	cmp_ok(scalar @theirs, '>=', 2, 'and sees it in the log');
	is(scalar(grep { decode_json($_)->{uid} != $NOBODY } @theirs), 0, 'and nothing else');
	fails_with([ @as, $host->cmd('log', 'verify') ], qr/this user may not read/, 'but cannot verify it');
	is(scalar(split /\n/, run(@as, $host->cmd('log', 1))->{out}), 1, 'the last one of theirs');
}

# --- stop, and a kill

$host->tao('down');
my @last = (records())[ -2, -1 ];
is_deeply([ map { $_->{event} } @last ], [ 'stop', 'checkpoint' ], 'a stop is recorded and signed');
$r = ok_run([ $host->cmd('log', 'verify') ], 'it verifies without the host');
like($r->{out}, qr/^host +not checked/m, 'but for whose it is');
unlike($r->{out}, qr/^note/m, 'complete');
ok_run([ $host->cmd('log', 'verify', '--host', $key) ], 'and with the key');
my $head = decode_json($host->tao('--json', 'log', 'verify')->{out});
my $mark = "$head->{last}:$head->{head}";

spew($host->dir . '/taod.conf', "audit_size = $MAX\n");
sub up { return ok_run([ $host->cmd('up', @pass) ], 'up') }
sub pid { return decode_json($host->tao(qw(--json status))->{out})->{pid} }
sub crash { my $pid = pid(); kill 'KILL', $pid; ended($pid) }
up();
is((recorded('start', 2))[1]{after}, 'stop', 'the chain goes on after a stop');
ok_run([ $host->cmd('log', 'verify', '--has', $mark) ], 'with the head that was noted');
crash();
$r = ok_run([ $host->cmd('log', 'verify') ], 'after a kill it verifies');
like($r->{out}, qr/^note .*was killed$/m, 'and says so');
{
	open my $fh, '>>', "$log/current.log" or die;
	print $fh '{"seq":9999,"time":"2026-';
	close $fh;
}
like($host->tao('log', 'verify')->{out}, qr/^note +it ends with half a record, 25 bytes/m, 'half a record');
up();
is((recorded('start', 3))[2]{after}, 'kill', 'the chain goes on after a kill');
my ($torn) = recorded('torn');
is($torn->{bytes}, 25, 'half a record is moved aside');
is(slurp("$log/$torn->{kept}"), '{"seq":9999,"time":"2026-', 'and kept');
ok_run([ $host->cmd('log', 'verify', '--has', $mark) ], 'and all of it verifies');

# --- files

for (1 .. 30) { $host->tao('policy', $_ % 2 ? 'add' : 'remove', fact('bb')) }
recorded('Host.AddFact', 17);
recorded('Host.RemoveFact', 16);
my @full = sort(glob "$log/0*.log");
cmp_ok(scalar @full, '>=', 3, 'files are begun anew: ' . @full);
is($full[0], "$log/00000001.log", 'and numbered');
ok_run([ $host->cmd('log', 'verify') ], 'they verify while the host runs');
is_deeply([ map { decode_json($_)->{seq} } split /\n/, $host->tao('--json', 'log')->{out} ], [ 1 .. scalar records() ],
	'tao log reads all of them');
$host->tao('down');

# --- what is changed is found

my @whole = (@full = sort(glob "$log/0*.log"), "$log/current.log");
my @seqs = map { my $f = $_; map { [ $f, decode_json($_)->{seq} ] } lines($f) } @whole;
my $end = $seqs[-1][1];

# A copy with a change; the record that verify names.
sub tampered {
	my ($want, $name, $change) = @_;
	my $copy = "$dir/copy";
	run('rm', '-rf', $copy);
	mkdir $copy;
	for my $f (@whole) { copy($f, $copy . '/' . ($f =~ s{.*/}{}r)) or die "$f: $!" }
	$change->($copy);
	my $got = run($tao, '--json', 'log', 'verify', '--host', $key, $copy);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $v = eval { decode_json($got->{out}) } // {};
	is($v->{good} ? 'good' : $v->{bad_record} // $got->{err}, $want, $name) or diag($got->{out}, $got->{err});
	return $got;
}
sub edit {
	my ($file, $code) = @_;
	return sub {
		my @l = lines("$_[0]/$file");
		$code->(\@l);
		spew("$_[0]/$file", join '', map { "$_\n" } @l);
	};
}
my $one = '00000001.log';
tampered('good', 'a copy', sub {});
tampered(5, 'a byte', edit($one, sub { $_[0][4] =~ s/"uid":\d/"uid":7/ }));
tampered(4, 'a time', edit($one, sub { $_[0][3] =~ s/T\d/T9/ }));
tampered(3, 'a byte of a signature', edit($one, sub { $_[0][2] =~ s/(.)"\}$/($1 eq '0' ? '1' : '0') . '"}'/e }));
tampered(6, 'what is no JSON', edit($one, sub { $_[0][5] =~ s/\}$// }));
tampered(5, 'a member twice', edit($one, sub { $_[0][4] =~ s/\}$/,"uid":0}/ }));
tampered(5, 'a record is deleted', edit($one, sub { splice @{ $_[0] }, 4, 1 }));
tampered(1, 'the first is deleted', edit($one, sub { shift @{ $_[0] } }));
tampered(5, 'two are exchanged', edit($one, sub { @{ $_[0] }[ 4, 5 ] = @{ $_[0] }[ 5, 4 ] }));
tampered(6, 'one is there twice', edit($one, sub { splice @{ $_[0] }, 4, 0, $_[0][4] }));
my ($last_of_one) = grep { $seqs[$_][0] ne $seqs[0][0] } 0 .. $#seqs;
tampered($last_of_one, 'a file ends early', edit($one, sub { pop @{ $_[0] } }));
tampered(1, 'two files are exchanged', sub {
	rename "$_[0]/$one", "$_[0]/x";
	rename "$_[0]/00000002.log", "$_[0]/$one";
	rename "$_[0]/x", "$_[0]/00000002.log";
});
tampered($last_of_one + 1, 'a file is missing', sub { unlink "$_[0]/00000002.log" });
tampered('good', 'the oldest files may be moved away', sub { unlink "$_[0]/$one" });
my $cut = tampered('good', 'a cut behind the last checkpoint is as after a kill',
	edit('current.log', sub { splice @{ $_[0] }, -2 }));
like($cut->{out}, qr/"stopped":false/, 'and is told');
{
	my $whole_mark = decode_json($host->tao('--json', 'log', 'verify')->{out});
	is($whole_mark->{last}, $end, 'the head');
	fails_with([ $tao, 'log', 'verify', '--has', "$end:$whole_mark->{head}", "$dir/copy" ],
		qr/record $end was noted, and is not in the log/, 'a head that was noted finds it');
	ok_run([ $tao, 'log', 'verify', '--has', "$end:$whole_mark->{head}", $log ], 'and is in the whole log');
}
# Another's whole chain under another key.
my $other = start_host();
$other->tao('down');
fails_with([ $tao, 'log', 'verify', '--host', $key, $other->dir . '/audit' ], qr/record 3 is signed by another key than the host's/,
	'a chain made anew');

# While the host runs, it knows its head.
up();
my @before = lines("$log/current.log");
my $kept = slurp("$log/current.log");
recorded('start', 4);
spew("$log/current.log", join '', map { "$_\n" } @before[ 0 .. $#before - 1 ]);
fails_with([ $host->cmd('log', 'verify') ], qr/was noted, and is not in the log/, 'a cut under a running host');
$host->tao('policy', 'add', fact('cc'));
ok(wait_for(sub { return slurp("$log/current.log") =~ /"event":"altered"/ }, 10), 'which notices it too');
fails_with([ $host->cmd('log', 'verify') ], qr/record \d+ is missing/, 'and does not hide it');
ok(wait_for(sub { return $host->tao('status')->{out} =~ /^warning +the audit log was changed by somebody else: 'tao log verify' says where$/m }, 10),
	'tao status warns of it');
like(slurp($host->dir . '/taod.log'), qr/warning: the audit log was changed by somebody else/, 'so does taod.log');
$host->tao('down');
unlink glob "$log/*";

# --- a full disk

SKIP: {
	skip 'needs root', 9 if $< != 0;
	mkdir "$dir/mnt";
	my $mounted = run('mount', '-t', 'tmpfs', '-o', 'size=32k,mode=755', 'none', $log);
	skip 'no file system can be mounted here', 9 if $mounted->{status} != 0;
	eval {
		up();
		for (1 .. 60) { last if status_says(qr/cannot|full|space/); $host->tao(qw(run --quiet /bin/true)) }
		ok(status_says(qr/audit/), 'a full disk is told in tao status');
		like(slurp($host->dir . '/taod.log'), qr/error: the audit log cannot be written/, 'and in the log');
		is($host->tao(qw(run --quiet /bin/true))->{status}, 0, 'and the host goes on');
		run('mount', '-o', 'remount,size=4m', $log);
		ok(wait_for(sub { return !status_says(qr/audit log/) }, 10), 'until there is room');
		ok(wait_for(sub { return (grep { $_->{event} eq 'end' } records()) >= 1 }, 10), 'what waited is written');
		ok_run([ $host->cmd('log', 'verify') ], 'the chain is whole');
		$host->tao('down');
		unlink glob "$log/*";
		run('mount', '-o', 'remount,size=32k', $log);
		spew($host->dir . '/taod.conf', "audit = require\n");
		up();
		for (1 .. 60) { last if status_says(qr/audit/); $host->tao(qw(run --quiet /bin/true)) }
		fails_with([ $host->cmd(qw(run --quiet /bin/true)) ], qr/audit log of the host cannot be written/,
			'audit = require refuses then');
		is($host->tao('ps')->{status}, 0, 'but what needs no record');
		$host->tao('down');
		1;
	} or diag($@);
	run('umount', $log);
	unlink $host->dir . '/taod.conf';
}
sub status_says { return grep { $_ =~ $_[0] } @{ decode_json($host->tao(qw(--json status))->{out})->{warnings} } }

# --- ps, stop, kill

unlink $host->dir . '/taod.conf';
up();
my @run = ($host->cmd('run', '--quiet', '--name'));
my @p = map { spawn(@run, $_, 'sleep', '100') } qw(one two two);
my $stubborn = spawn(@run, 'stubborn', 'sh', '-c', 'trap "" TERM; while :; do sleep 0.1; done');
my $signer = spawn(@run, 'signer', 'sh', '-c', "$tao name; exec sleep 100");
my @ps;
wait_for(sub { @ps = @{ decode_json($host->tao(qw(--json ps))->{out}) }; return @ps == 5 }, 10);
my %ps = map { $_->{name} => $_ } @ps;
is($ps{one}{pid}, $p[0]->pid, 'tao ps: the process');
is($ps{one}{keys}, 0, 'that used no key');
ok(wait_for(sub { return (grep { $_->{name} eq 'signer' && $_->{operations} > 0 } @{ decode_json($host->tao(qw(--json ps))->{out}) }) },
	10), 'and one that asked for something');
like($host->tao('ps')->{out}, qr/^NAME +PID +USER +SINCE +KEYS +OPERATIONS\n/, 'for people');
like($host->tao('ps', '--long')->{out}, qr/^NAME .* PRINCIPAL\n.*\.Measured\(/s, 'and with --long');
fails_with([ $host->cmd('stop', 'two') ], qr/'two' may be any of these: two \(id:\d+, pid:\d+\), two \(id:\d+, pid:\d+\)/,
	'two of one name');
fails_with([ $host->cmd('stop', 'three') ], qr/no program 'three' of yours runs/, 'none of a name');
fails_with([ $host->cmd('stop') ], qr/something is missing/, 'no name');
fails_with([ $host->cmd('kill', '--signal', 'NONE', 'one') ], qr/there is no signal 'NONE'/, 'no signal');
fails_with([ $host->cmd('stop', $$) ], qr/no program/, 'a process that is not the host\'s');
SKIP: {
	skip 'needs root', 1 if $< != 0;
	fails_with([ 'setpriv', "--reuid=$NOBODY", "--regid=$NOBODY", '--clear-groups', $host->cmd('stop', 'one') ],
		qr/no program 'one' of yours/, 'another user\'s');
}
ok_run([ $host->cmd('stop', 'one') ], 'tao stop');
is($p[0]->wait(10), 128 + 15, 'asks it to end');
ok_run([ $host->cmd('stop', $p[1]->pid) ], 'by process');
is($p[1]->wait(10), 128 + 15, 'that one');
ok($p[2]->alive, 'and no other');
fails_with([ $host->cmd('stop', '--timeout', 1, 'stubborn') ], qr/still runs after 1 seconds: 'tao kill pid:\d+'/, 'one that does not');
ok($stubborn->alive, 'still runs');
ok_run([ $host->cmd('kill', 'stubborn') ], 'tao kill');
is($stubborn->wait(10), 128 + 9, 'ends it');
ok_run([ $host->cmd('kill', '--signal', 'SIGINT', "id:$ps{signer}{id}") ], 'with another signal, by instance');
is($signer->wait(10), 128 + 2, 'which it got');
my $status = $host->tao('status')->{out};
like($status, qr/^host +running since \S+ \(\d+ .*\), process \d+, version/m, 'tao status');
like($status, qr/^audit log +\d+ records, signed to record \d+, 0 lost$/m, 'tells of the log');
$_->stop for @p;

# --- taod.log

my $raw = tool('rawclient');
run($raw, $host->dir . '/run/tao.sock', { stdin => join '', map { "connect\nraw 00100000\nrecv\n" } 1 .. 50 });
sub closed { return () = slurp($host->dir . '/taod.log') =~ /closed a connection of process/g }
is(closed(), 20, 'lines of one kind about one user are limited');
my $odd = tmpdir() . "/odd\e\n\xc2\x9b\xe2\x9c\x93";
copy('/bin/true', $odd);
chmod 0755, $odd;
run($host->cmd('run', '--', $odd));
like(slurp($host->dir . '/taod.log'), qr{runs \S*/odd\?\?\xc2\?\xe2\x9c\x93 as}, 'what a terminal would act upon is not in it');
$host->tao('down');
like(slurp($host->dir . '/taod.log'), qr/suppressed 30 lines about user $<, like: closed a connection of process/,
	'and it says how many there were');
done_testing();
