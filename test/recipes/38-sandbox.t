# What taod gave up: system calls, files, capabilities, swap; and what its memory does not hold
# between uses.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use TaoTest;

my $san = config('TAO_ASAN');
my $host = start_host();
my $dir = $host->dir;
my $status = decode_json($host->tao(qw(--json status))->{out});
my $keeper = $status->{pid};

sub proc_status { return { slurp("/proc/$_[0]/status") =~ /^(\w+):[ \t]*(.*)$/mg } }
sub children {
	my ($pid) = @_;
	my @of = split ' ', join ' ', map { slurp($_) } glob "/proc/$pid/task/*/children";
	return (@of, map { children($_) } @of);
}

my ($measurer) = grep { proc_status($_)->{Name} eq 'taod-measurer' && proc_status($_)->{Seccomp} == ($san ? 0 : 2) }
    children($keeper);
ok(defined $measurer, 'there is a measurer');
my %of = (keeper => proc_status($keeper), measurer => proc_status($measurer));

for my $who (qw(keeper measurer)) {
	is($of{$who}{NoNewPrivs}, 1, "$who: no new privileges");
	is($of{$who}{Seccomp}, $san ? 0 : 2, "$who: its system calls are " . ($san ? 'not filtered' : 'filtered'));
}
is($of{keeper}{$_}, '0' x 16, "keeper: $_ is empty") for qw(CapPrm CapEff CapInh CapAmb);
SKIP: {
	skip 'only root has capabilities to lose', 3 if $> != 0;
	is($of{keeper}{CapBnd}, '0' x 16, 'keeper: CapBnd is empty');
	is($of{measurer}{$_}, sprintf('%016x', 1 << 19), "measurer: $_ has CAP_SYS_PTRACE alone") for qw(CapPrm CapEff);
}
ok($status->{no_capabilities}, 'tao status: no capabilities');
is(!!$status->{seccomp}, !$san, 'tao status: seccomp');
is(!!$status->{memory_locked}, $of{keeper}{VmLck} !~ /^0 /, 'tao status: whether memory is locked');
like($host->tao('status')->{out}, $san ? qr/no seccomp, no Landlock/ : qr/seccomp, (no )?Landlock/, 'tao status, for people');
like($host->tao('status')->{out}, qr/neither seccomp nor Landlock/, 'and says why') if $san;

# Every thread: those of the workers were made later.
my @threads = map { { slurp($_) =~ /^(\w+):[ \t]*(.*)$/mg } } glob "/proc/$keeper/task/*/status";
cmp_ok(scalar(@threads), '>', 2, 'the keeper has threads');
is(scalar(grep { $_->{Seccomp} != ($san ? 0 : 2) || $_->{NoNewPrivs} != 1 || $_->{CapEff} !~ /^0+$/ } @threads), 0,
	'all of them are bound');

SKIP: {
	skip 'a build with sanitizers has no sandbox', 4 if $san;
	like($status->{landlock}, qr/^\d+$/, 'tao status: Landlock, by ABI');
	my $off = start_host(dir => tmpdir() . '/off', init => [], env => {});
	$off->down;
	spew($off->dir . '/taod.conf', "sandbox = no\n");
	my @pass = ('--passphrase-file', $off->passfile);
	$off->{up} = 1;
	ok_run([ $off->cmd('up', @pass) ], 'a host with sandbox = no');
	my $s = decode_json($off->tao(qw(--json status))->{out});
	ok(!$s->{seccomp} && $s->{landlock} == 0 && grep({ /sandbox/ } @{ $s->{warnings} }), 'tao status warns');
	is(proc_status($s->{pid})->{Seccomp}, 0, 'and it is true');
	$off->down;
	spew($off->dir . '/taod.conf', "sandbox = maybe\n");
	fails_with([ bin('taod'), '-d', $off->dir, '--test' ], qr/sandbox = maybe: say yes or no/, 'sandbox = maybe');
}

# It serves as it did: what changes files, and what asks the measurer.
ok_run([ $host->cmd('key', 'new', 'web', '--for', '/usr/bin/openssl') ], 'a key');
spew("$dir.data", 'data');
my @sign = ($host->cmd('run', '--quiet', '--', 'openssl'), qw(dgst -sha256 -sign tao:web -out), "$dir.sig", "$dir.data");
ok_run(\@sign, 'a signature');
ok_run([ $host->cmd('trust', '/usr/bin/openssl', '--serves', 'www.example.org') ], 'rules');
ok_run([ $host->cmd('run', '--quiet', '--', 'openssl'), qw(storeutl -noout -certs tao:web/chain) ], 'a certificate');
is(proc_status($keeper)->{Name}, 'taod', 'the keeper is the same');

# --- what memory holds between uses

SKIP: {
	skip 'the sanitizer keeps freed memory', 6 if $san;
	skip 'only root may look into the memory of an undumpable process', 6 if $> != 0;
	my $scan = tool('keyscan');
	for my $file (qw(host/root.key domain/policy.key)) {
		my @of = ("$dir/$file", $host->passfile, '-');
		my $victim = spawn(tool('keyscan-victim'), @of);
		ok(defined $victim->wait_for_line(qr/ready/, 20), "$file: a process that holds it");
		my $r = run($scan, @of, 'planted-control', $victim->pid);
		like($r->{out}, qr/big-endian\) [1-9]\d* times, private key \(limbs\) [1-9]\d* times, deriving key [1-9]\d* times, passphrase [1-9]\d* times, control [1-9]/,
			"$file: the scan finds all of it there");
		$victim->stop;
		ok_run([ $scan, @of, $dir, $keeper ], "$file: none of it in the keeper, which has used it");
	}
}

$host->down;
like(slurp("$dir/taod.log"), qr/taod ends\n\z/, 'it ends by itself when it is told to');

# --- the measurer's supervisor is killed

{
	my $h = start_host(dir => tmpdir() . '/lost');
	my ($pid) = slurp($h->dir . '/run/taod.pid') =~ /(\d+)/;
	my ($supervisor) = split ' ', slurp("/proc/$pid/task/$pid/children") =~ s/^$/0/r;
	kill 'KILL', $supervisor if $supervisor;
	ok(wait_for(sub { return !kill 0, $pid }), 'taod ends at once, though nobody asks it for anything');
	like(slurp($h->dir . '/taod.log'), qr/error: the measurer was killed.*start it again/, 'and says why');
	ok_run([ $h->cmd('up', '--passphrase-file', $h->passfile) ], 'it is started again');
	ok_run([ $h->cmd('run', '--', '/bin/true') ], 'and runs programs');
}

done_testing();
