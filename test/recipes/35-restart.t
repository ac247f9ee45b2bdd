# The host ends, by itself, by a signal or for a newer one, and comes back:
# programs go on, what is sealed stays, and whoever cannot go on is told why.
use strict;
use warnings;

use JSON::PP;
use POSIX ();
use Test::More;
use TaoRaw qw(answers ask call converse encoded field finish parse);
use TaoTest;
use Time::HiRes qw(sleep);

need_programs('openssl');

# Numbers of enum tao_err.
use constant { OK => 0, ENOTRUN => 15 };

my $dir = tmpdir();
my $raw = tool('rawclient');
my $host = start_host();
my $socket = $host->dir . '/run/tao.sock';
my $files = $host->dir . '/host/instances';
my @pass = ('--passphrase-file', $host->passfile);
my $rounds = $ENV{TAO_TEST_ALL} ? 25 : 6; # of killing

# --- the host

sub status { return decode_json($host->tao(qw(--json status))->{out}) }
sub taod { return status()->{pid} }
sub ps { return @{ decode_json($host->tao(qw(--json ps))->{out}) } }
sub journal { return slurp($host->dir . '/taod.log') }

sub kill_host {
	my $pid = slurp($host->dir . '/run/taod.pid') + 0;
	kill 'KILL', $pid;
	return ended($pid);
}
sub up {
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok_run([ $host->cmd('up', @pass) ], $name);
}
sub quietly_up {
	my $r = $host->tao('up', @pass);
	diag($r->{err}) if $r->{status} != 0;
	return $r->{status} == 0;
}
sub instances {
	my @ids = sort { $a <=> $b } map { m{/(\d+)$} } glob "$files/*";
	return @ids;
}
sub temporaries { return grep { length } split /\n/, run('find', $host->dir, '-name', '.tao-*')->{out} }

# --- a program that is talked to while it runs

sub program { return converse($host->cmd('run', '--quiet', @_, '--', $raw), $socket) }
# The first field of an answer, which is of bytes.
sub first_field { return parse($_[0])->{1} // '' }
my $extend = call('Tao.ExtendTaoName', field(1, encoded('subprin', '.Mode(1)')));
my $get_name = call('Tao.GetTaoName');
sub seal { return call('Tao.Seal', field(1, $_[0]), field(3, 'self')) }
sub unseal { return call('Tao.Unseal', field(1, $_[0])) }
sub generate { return call('Tao.GenerateKey', field(1, $_[0])) }

# --- it knows its programs again

{
	my $p = program('--name', 'first');
	my @l = ask($p, 'door', 'identify', $extend, $get_name, seal('secret'));
	answers(OK, 'a program seals', @l);
	my ($name, $blob) = ($l[3], first_field($l[4]));
	my ($before) = ps();
	is($before->{label}, 'first', 'it is listed');
	is_deeply([ instances() ], [ $before->{id} ], 'its file is there');
	is((stat $files)[2] & 07777, 0700, "in a directory of the host's own");
	is((stat "$files/$before->{id}")[2] & 07777, 0600, 'for nobody else');
	unlike(slurp("$files/$before->{id}"), qr/rawclient|first/, 'and sealed');
	my $old = taod();
	kill_host();
	answers('closed', 'the host was killed', ask($p, $get_name));
	fails_with([ $host->cmd('ps') ], qr/is not running: start it with/, 'and nobody answers');
	up('it is started again');
	isnt(taod(), $old, 'another process');
	is(status()->{recalled}, 1, 'which recalled one program');
	like(journal(), qr/info: recalled 1 program$/m, 'as the log says');
	like($host->tao('status')->{out}, qr/1, 1 of them recalled/, 'and tao status');
	my ($after) = ps();
	is($after->{$_}, $before->{$_}, "its $_ is what it was") for qw(id pid user since label program principal);
	cmp_ok($after->{operations}, '<=', $before->{operations}, 'its operations are those that were on file');
	@l = ask($p, 'connect', 'identify', $get_name, unseal($blob));
	is($l[2], $name, 'it has its whole name, with what it was extended by');
	is(first_field($l[3]), 'secret', 'and opens what it sealed');
	answers('closed', 'its door is dead', ask($p, 'door', 'identify'));
	up('tao up once more');
	is(status()->{recalled}, 1, 'changes nothing');

	my $q = program('--name', 'second');
	ask($q, 'door', 'identify');
	cmp_ok((sort { $b <=> $a } map { $_->{id} } ps())[0], '>', $before->{id}, 'identifiers are not used again');
	$host->tao('down');
	up('taken down and started');
	is(status()->{recalled}, 2, 'two programs are recalled');
	($after) = grep { $_->{label} eq 'first' } ps();
	cmp_ok($after->{operations}, '>=', $before->{operations}, 'an orderly end leaves no operation uncounted');
	kill_host();
	finish($q);
	up('one program has ended meanwhile');
	is(status()->{recalled}, 1, 'the other is recalled');
	ok(wait_for(sub { return instances() == 1 }), 'and the file of the first is gone');
	my @outside = split /\n/, run($raw, $socket, { stdin => "connect\nidentify\n" })->{out};
	answers(ENOTRUN, 'who was never registered is still nobody', @outside);
	finish($p);
	ok(wait_for(sub { return instances() == 0 && ps() == 0 }), 'when it ends, its file goes');
}

# --- a daemon, whose registered process has ended

{
	my $p = program();
	ask($p);
	my $file = "$files/" . (instances())[0];
	my $size = -s $file;
	my ($pid) = grep { /^\d+$/ } ask($p, 'daemon', 'door', 'identify', 'pid');
	my @now = ps();
	is($now[0]{pid}, $pid, 'a daemon is listed as the process that lives');
	ok(wait_for(sub { return -s $file > $size }, 20), 'its file soon has that process');
	kill_host();
	up('killed and started');
	is(status()->{recalled}, 1, 'it is recalled by the process that had proved itself');
	is((ps())[0]{pid}, $pid, 'and listed');
	answers(OK, 'it connects by the path', ask($p, 'connect', 'identify', $get_name));
	$host->tao('down');
	up('once more, orderly');
	answers(OK, 'it is known still', ask($p, 'connect', 'identify', $get_name));
	$host->tao(qw(key new daemons --for), $raw);
	$host->tao('trust', $raw);
	answers(OK, 'it gets a certificate', ask($p, call('Tao.GetCertificate', field(1, 'daemons'))));
	my $cert = $host->dir . "/certs/$>/daemons.pem";
	ok_run([ $host->cmd(qw(key rotate daemons)) ], 'whose key is rotated');
	is(run(qw(openssl x509 -noout -pubkey -in), $cert)->{out}, $host->tao(qw(key show --pubkey daemons))->{out},
		'and which is at once replaced in its file: the daemon runs, although what was registered has ended');
	finish($p);
	ok(wait_for(sub { return instances() == 0 && ps() == 0 }), 'when it ends it is listed no more');
}

# --- files that are not right

{
	my $p = program();
	ask($p, 'door', 'identify');
	my ($id) = instances();
	my $good = slurp("$files/$id");
	kill_host();
	spew("$files/900", 'nonsense');
	spew("$files/901", $good); # under another number
	spew("$files/902", substr($good, 0, -1) . chr(ord(substr $good, -1) ^ 1));
	spew("$files/903", substr($good, 0, 6) . 'x' x 32 . substr $good, 38);
	spew("$files/904", '');
	spew("$files/notes", 'not a file of ours');
	my @left = map { spew($host->dir . "/$_/.tao-0123456789abcdef", 'half a file') } qw(host host/instances domain run);
	spew($host->dir . '/run/taod.pid', '1');
	up('with damaged files, leftovers, the socket and the process number of the killed one');
	is(status()->{recalled}, 1, 'the good one is recalled');
	like(journal(), qr/instances\/$_ is removed, its program is not recalled/, "the log names file $_") for 900 .. 904;
	ok(wait_for(sub { return instances() == 1 }), 'they are removed') or diag(join ' ', instances());
	is(slurp("$files/notes"), 'not a file of ours', "and no others'");
	unlink "$files/notes";
	is(join(' ', grep { -e } @left), '', 'temporary files are removed');
	like(journal(), qr/removed 4 temporary files/, 'which the log says');
	answers(OK, 'the program is known', ask($p, 'connect', 'identify'));
	my $q = program();
	ask($q, 'door', 'identify');
	cmp_ok((ps())[0]{id}, '>', 904, 'no number of a file is used again');
	finish($_) for $p, $q;
	ok(wait_for(sub { return instances() == 0 }), 'nothing is left');
}

# --- starting twice

like(up('tao up when it runs')->{out}, qr/running already/, 'says so');
$host->tao('down');
{
	my @up = map { spawn($host->cmd('up', @pass)) } 1 .. 4;
	my @status = map { $_->wait(60) } @up;
	my @winners = grep { defined $_ && $_ == 0 } @status;
	cmp_ok(scalar @winners, '>=', 1, 'several at the same time: one starts it');
	my @others = grep { $_->log !~ /answers on|running already|a taod runs on/ } @up;
	is(scalar @others, 0, 'the others say that one runs') or diag(map { $_->log } @others);
	ok(defined taod(), 'and it answers');
	my @taods = grep { (eval { slurp("$_/cmdline") } // '') =~ m{^[^\0]*\btaod\0.*\Q$host->{dir}\E\0}s } glob '/proc/[0-9]*';
	is(scalar @taods, 1, 'there is one') or diag("@taods");
}

# --- signals

{
	my $p = program();
	ask($p, 'door', 'identify');
	my $pid = taod();
	my $log = $host->dir . '/taod.log';
	rename $log, "$log.1" or die;
	kill 'HUP', $pid;
	is((ask($p, "burst 2000 Tao.GetTaoName -"))[-1], '2000 ok', 'SIGHUP during requests');
	is(taod(), $pid, 'ends nothing');
	ok(wait_for(sub { -e $log && slurp($log) =~ /the log is open anew/ }, 20), 'and the log goes on in another file');
	unlike(slurp("$log.1"), qr/open anew/, 'not in the one that was moved away');
	print { $p->{in} } "burst 20000 Tao.GetTaoName -\n";
	kill 'TERM', $pid;
	ok(ended($pid), 'SIGTERM during requests ends it');
	ok(!-e $socket && !-e $host->dir . '/run/taod.pid', 'and leaves no socket');
	unlike(journal(), qr/Sanitizer|runtime error/, 'without complaints');
	up('started again');
	answers(OK, 'the program goes on', ask($p, 'connect', 'identify'));
	finish($p);
}

# --- keys in use while it is killed again and again

sub kill_and_start {
	my ($times) = @_;
	my $good = 0;
	for (1 .. $times) {
		sleep rand 0.4;
		kill_host();
		sleep rand 0.1;
		$good += quietly_up();
	}
	return $good;
}

ok_run([ $host->cmd(qw(key new sign --for), tool('keyuse')) ], 'a key');
{
	my $signer = spawn($host->cmd('run', '--quiet', '--', tool('keyuse')), 'tao:sign', 3, 4,
		config('TAO_ASAN') ? 3000 : 20000, 60);
	ok(wait_for(sub { return (map { $_->{connections} } ps())[0] // 0 }, 20), 'three processes of four threads sign');
	is(kill_and_start($rounds), $rounds, 'the host is killed again and again, and each start works');
	is($signer->wait(300), 0, 'every signature came, in every process and thread') or diag($signer->log);
	like($signer->log, qr/^tried again$/m, 'some at the second attempt');
	like($signer->log, qr/^\d+$/m, 'and it took its time');
}

# --- what was sealed or made while it was killed

{
	my $p = program();
	my (%blob, %key);
	ask($p, 'door', 'identify', $extend);
	my $n = 0;
	my $good = 0;
	for my $round (1 .. $rounds) {
		my $killer = fork // die "fork: $!\n";
		if ($killer == 0) {
			sleep rand 0.2;
			kill 'KILL', slurp($host->dir . '/run/taod.pid') + 0;
			POSIX::_exit(0);
		}
		for (1 .. 40) {
			$n++;
			my @l = ask($p, seal("secret $n"), generate("key$n"));
			$blob{"secret $n"} = first_field($l[0]) if ($l[0] // '') =~ /^ok/;
			$key{"key$n"} = first_field($l[1]) if ($l[1] // '') =~ /^ok/;
			last if grep { /^closed/ } @l;
		}
		waitpid $killer, 0;
		kill_host();
		$good += quietly_up();
		ask($p, 'connect', 'identify');
	}
	is($good, $rounds, 'killed while a program seals and makes keys');
	cmp_ok(scalar keys %blob, '>', 0, scalar(keys %blob) . ' secrets were sealed');
	my @lost = grep { first_field((ask($p, unseal($blob{$_})))[-1]) ne $_ } sort keys %blob;
	is("@lost", '', 'none of them is lost');
	@lost = grep { (ask($p, call('Tao.OpenKey', field(2, $key{$_}))))[-1] !~ /^ok/ } sort keys %key;
	is("@lost", '', 'nor any of ' . keys(%key) . ' keys, as they were given');
	@lost = grep { (ask($p, call('Tao.GetKey', field(1, $_))))[-1] !~ /^ok/ } sort keys %key;
	is("@lost", '', 'or by their names');
	my @half = grep { slurp($_) !~ /-----END TAO PRIVATE KEY-----\n\z/ } glob $host->dir . '/keys/*/*.pem';
	is("@half", '', 'no file is half written');
	is(join(' ', temporaries()), '', 'no temporary file is left');
	like((ask($p, $get_name))[-1], qr/^ok/, 'and the program has its name');
	finish($p);
}

# --- a request that may have been carried out is not made twice: see test/unit/t_pool.c

# --- a program that cannot get to the socket

{
	my $signer = spawn($host->cmd('run', '--quiet', '--', tool('keyuse')), 'tao:sign', 1, 1, 100000000);
	ok(wait_for(sub { return (map { $_->{connections} } ps())[0] // 0 }, 20), 'a program signs');
	kill_host();
	is($signer->wait(60), 1, 'the host is gone for good');
	like($signer->log, qr/was started under has ended, and it cannot reach the next one/, 'the program is told');
	up('started again');
}

$host->down;
unlike(journal(), qr/Sanitizer|runtime error/, 'no complaint in the log');
done_testing();
