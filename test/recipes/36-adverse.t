# Disks that are full or read-only, clocks that jump: nothing is damaged, what
# needs no disk goes on, and what does says so.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use TaoRaw qw(ask call converse encoded field finish);
use TaoTest;

need_programs('openssl');

my $dir = tmpdir();
my $raw = tool('rawclient');
my $keyuse = tool('keyuse');

# --- hosts in a mount namespace of their own, or not

my ($mount, $ns, @in);  # a small file system, the process that holds it, how to get there
my $state;              # the host's directory
my @pass = ('--passphrase-file', spew("$dir/pass", "correct horse\n"));

sub in { return (@in, @_) }
sub cmd { return in(bin('tao'), '-d', $state, @_) }
sub tao { return run(cmd(@_)) }
sub seen { return defined $ns ? '/proc/' . $ns->pid . "/root$_[0]" : $_[0] } # from outside
sub journal { return slurp(seen("$state/taod.log")) }
sub kill_host {
	my $pid = decode_json(tao(qw(--json status))->{out})->{pid};
	kill 'KILL', $pid;
	return ended($pid);
}

sub program { return converse(cmd('run', '--quiet', '--', $raw), "$state/run/tao.sock") }
sub text { my ($code, $like, $name, @l) = @_; return like($l[-1] // '', qr/^err \S+ $code .*$like/, $name) }
sub fine { my ($name, @l) = @_; return like($l[-1] // '', qr/^ok/, $name) }

sub generate { return call('Tao.GenerateKey', field(1, $_[0])) }
my $extend = call('Tao.ExtendTaoName', field(1, encoded('subprin', '.Mode(1)')));
my $get_name = call('Tao.GetTaoName');
my $seal = call('Tao.Seal', field(1, 'secret'), field(3, 'self'));

sub signs {
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok_run([ cmd('run', '--', $keyuse), qw(tao:k 1 1 10) ], $name);
}
sub listing {
	return run(in('find', "$state/keys", "$state/domain", "$state/certs", '-type', 'f', '-exec', 'sha256sum', '{}', '+'))->{out};
}

sub no_namespace {
	return 'only root may mount' if $<;
	return 'unshare and nsenter are not there' if grep { !-x "/usr/bin/$_" } qw(unshare nsenter);
	return 'mounting is not permitted here'
	    if run(qw(unshare -m sh -c), "mount -t tmpfs -o size=64k tmpfs $dir")->{status} != 0;
	return undef;
}

SKIP: {
	my $why = no_namespace();
	skip "full and read-only disks: $why", 1 if defined $why;
	$mount = "$dir/small";
	$state = "$mount/host";
	mkdir $mount;
	$ns = spawn(qw(unshare -m sh -c), "mount -t tmpfs -o size=3m,mode=755 tmpfs $mount && echo ready && exec sleep 1000");
	defined $ns->wait_for_line(qr/^ready$/m, 20) or BAIL_OUT('no small disk: ' . $ns->log);
	my $there = '/proc/' . $ns->pid;
	@in = ('nsenter', "--mount=$there/ns/mnt", "--root=$there/root", '--'); # in a chroot, it is another root
	ok_run([ cmd('init', @pass) ], 'a host on a small disk');
	ok_run([ cmd('up', @pass) ], 'runs');
	ok_run([ cmd(qw(key new k --for), $keyuse) ], 'has a key');
	ok_run([ cmd('trust', $keyuse, qw(--serves localhost)) ], 'and trusts its program');
	signs('which signs');
	my $p = program();
	fine('a program runs', ask($p, 'door', 'identify', generate('own')));

	# Full.
	my $rules = tao(qw(policy show))->{out};
	my $before = listing();
	run(in('sh', '-c', "cat /dev/zero >$mount/filler"));
	my $full = qr/the disk is full: free some space/;
	fails_with([ cmd(qw(key new other --for), $keyuse) ], $full, 'a full disk: no new key');
	fails_with([ cmd('trust', $raw) ], $full, 'no new rule');
	is(tao(qw(policy show))->{out}, $rules, 'those that there were hold');
	text(6, $full, 'a program makes no key', ask($p, generate('more')));
	fine('but seals', ask($p, $seal));
	like(signs('and signs')->{err}, qr/will not be recognised when the host is restarted: .*disk is full/,
		'a program that starts now is told that it will not be recalled');
	fine('it extends its name', ask($p, $extend));
	like(journal() . run(in(qw(cat), "$state/taod.log"))->{out}, qr/\A/, 'the log is what fits');
	is(listing(), $before, 'no file has changed');
	is(run(in('find', $state, '-name', '.tao-*'))->{out}, '', 'none is half written');
	kill_host();
	ok_run([ cmd('up', @pass) ], 'killed, it starts on the full disk');
	signs('and its keys sign');
	unlink seen("$mount/filler");
	ok_run([ cmd(qw(key new other --for), $keyuse) ], 'with space again there are new keys');
	finish($p);

	# Read-only.
	$p = program();
	fine('another program', ask($p, 'door', 'identify', $extend));
	signs('with a certificate on file');
	my ($name) = ask($p, $get_name);
	$before = listing();
	ok_run([ in('sh', '-c', "mount --bind $mount $mount && mount -o remount,bind,ro $mount") ],
		'the disk becomes read-only');
	my $ro = qr/Read-only file system/;
	fails_with([ cmd(qw(key new third --for), $keyuse) ], $ro, 'no new key');
	fails_with([ cmd('trust', $raw) ], $ro, 'no new rule');
	text(12, $ro, 'a program makes no key', ask($p, generate('more')));
	text(12, qr/the name is not extended, since a restarted host would not know it/,
		'nor is a name extended that a restarted host would know as the shorter one', ask($p, $extend));
	is((ask($p, $get_name))[-1], $name, 'it is what it was');
	fine('it seals', ask($p, $seal));
	signs('and keys sign');
	ok_run([ cmd('run', '--', '/usr/bin/openssl', 'version') ], 'programs start');
	is(listing(), $before, 'nothing has changed');
	kill_host();
	fails_with([ cmd('up', @pass) ], qr/$ro: mount it writable/,
		'killed, it does not start, and says why and what to do');
	ok_run([ in('umount', $mount) ], 'the disk is writable again');
	ok_run([ cmd('up', @pass) ], 'it starts');
	is((ask($p, 'connect', 'identify', $get_name))[-1], $name, 'and knows the program');
	finish($p);
	ok_run([ cmd('down') ], 'it ends');
	unlike(journal(), qr/Sanitizer|runtime error/, 'without complaints');
	@in = ();
	$ns->stop('KILL');
	$ns = undef;
}

# --- clocks

SKIP: {
	my ($lib) = glob '/usr/lib/*/faketime/libfaketimeMT.so.1';
	skip 'clocks that jump: faketime is not installed', 1 if !defined $lib;
	skip 'clocks that jump: not with sanitizers', 1 if config('TAO_ASAN');
	$state = "$dir/clock";
	ok_run([ cmd('init', @pass) ], 'a host with a clock of its own');
	# Of which the host would look at the rest of its life once a minute, if it did not see that the clock is set.
	spew("$state/taod.conf", slurp("$state/taod.conf") . "\ncertificate_lifetime = 172800\n") if slurp("$state/taod.conf") !~ /^certificate_lifetime/m;
	my $set = sub { # atomically: it is read all the time
		spew("$state/now.new", "$_[0]\n");
		rename "$state/now.new", "$state/now" or die "$state/now: $!\n";
	};
	$set->('+0');
	my %fake = (LD_PRELOAD => $lib, FAKETIME_TIMESTAMP_FILE => "$state/now", FAKETIME_NO_CACHE => 1,
		FAKETIME_DONT_FAKE_MONOTONIC => 1, NO_FAKE_STAT => 1);
	ok_run([ cmd('up', @pass) ], 'is started', { env => \%fake });
	ok_run([ cmd(qw(key new k --for), $keyuse) ], 'a key');
	ok_run([ cmd('trust', $keyuse, qw(--serves localhost)) ], 'a rule');
	my $pid = decode_json(tao(qw(--json status))->{out})->{pid};
	my $p = spawn(cmd('run', '--quiet', '--', $keyuse), qw(tao:k 1 1 100000000));
	my $path = "$state/certs/$</k.pem";
	my $why = "$state/certs/$</k.why";
	my $cert = sub { return -e $path ? slurp($path) : '' };
	my $valid = sub { # at that many seconds from now
		return run(qw(openssl verify -x509_strict -no_check_time -CAfile), "$state/policy.pem", $path)->{status} == 0 &&
		    run('openssl', 'verify', '-attime', time + $_[0], '-partial_chain', '-trusted', $path, $path)->{status} == 0;
	};
	ok(wait_for(sub { return length $cert->() && $valid->(0) }, 20), 'a certificate');
	my $first = $cert->();
	$set->('+7d');
	ok(wait_for(sub { return $cert->() ne $first && $valid->(7 * 86400) }, 30), 'a week forward: a new one, valid then');
	my $second = $cert->();
	$set->('+2d');
	ok(wait_for(sub { return $cert->() ne $second && $valid->(2 * 86400) }, 30), 'five days back: a new one, valid then');
	my $third = $cert->();
	$set->('-30d');
	ok(wait_for(sub { return -e $why && slurp($why) =~ /not valid yet: set the clock/ }, 30),
		'before the domain was made: why there is none');
	is($cert->(), $third, 'the one on file stays');
	$set->('+0');
	ok(wait_for(sub { return $cert->() ne $third && $valid->(0) }, 30), 'and at the right time');
	my $said = sub {
		my ($like, $name) = @_;
		return ok(wait_for(sub { return journal() =~ $like }, 20), $name) || diag(journal());
	};
	$said->(qr/the clock was set forward by 259\d\d\d\d seconds, to \d{4}-/, 'the log says that it was set');
	my @set = map { $_->{event} eq 'clock' ? $_->{seconds} : () } map { decode_json($_) } split /\n/, tao(qw(--json log))->{out};
	cmp_ok(scalar(grep { /^\+\d+\z/ } @set), '>=', 2, 'so does the audit log, twice');
	cmp_ok(scalar(grep { /^-\d+\z/ } @set), '>=', 2, 'also when it was set back');
	ok_run([ cmd(qw(log verify)) ], 'whose records are as they were written, whatever time they have');
	unlike(join(' ', @{ decode_json(tao(qw(--json status))->{out})->{warnings} }), qr/clock/, 'tao status is content');
	$set->('-10m');
	ok(wait_for(sub { return tao('status')->{out} =~ /^warning +the clock was set back: Tao channels have no/m }, 20),
		'set back to before the start: tao status says what does not work');
	$set->('+0');
	my $looks = () = journal() =~ /error|warning: (?!taod runs as root|the clock was set)/g;
	is($looks, 0, 'the log is calm') or diag(journal());
	ok($p->alive, 'the program signs all the time');
	$p->stop('KILL');
	is(decode_json(tao(qw(--json status))->{out})->{pid}, $pid, 'and it is the same host');
	ok_run([ cmd('down') ], 'which ends');
}

done_testing();
