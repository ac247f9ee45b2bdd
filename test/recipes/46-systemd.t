# The installed taod.service, and services under the drop-ins of man/tao-applications.7, with a real
# systemd: test/systemd.sh boots one, and this recipe runs in it. Each service is started, reloaded,
# goes on through restarts of the host, and is restarted and stopped, seen by a client; nginx
# also with the host killed, down, out of order, and not able to start.
use strict;
use warnings;
use Cwd qw(abs_path);
use Test::More;
use TaoDaemon;
use TaoTest;
use TaoUnits;

my $boot = srctop() . '/test/systemd.sh';

if (!$ENV{TAO_SYSTEMD}) {
	ok_run([ $boot, '--help' ], '--help');
	fails_with([ $boot, '--bogus' ], qr/usage:/, 'an unknown option');
	my $mounts = slurp('/proc/self/mounts');
	my @bind = map { ('--bind', $_) } srctop(), bldtop();
	SKIP: {
		skip 'taod.service does not run with the sanitizers\' runtime', 1 if config('TAO_ASAN');
		skip 'this tree does not install where systemd looks', 1 if config('TAO_BINDIR') !~ m{^/usr(?:/local)?/bin$} || config('TAO_LOCALSTATEDIR') ne '/var';
		my $r = run($boot, @bind, $^X, (map { "-I$_" } @INC), abs_path($0), { env => { TAO_SYSTEMD => 1 }, timeout => 560 });
		skip $1, 1 if $r->{status} == 77 && $r->{out} =~ /^skipped: (.*)/m;
		diag($1) while $r->{out} =~ /# skip (.*)/g;
		my ($done) = $r->{out} =~ /^1\.\.(\d+)$/m;
		ok($r->{status} == 0 && ($done // 0) > 40, 'in a machine of its own') or diag($r->{out}, $r->{err});
	}
	is(slurp('/proc/self/mounts'), $mounts, 'nothing stays mounted');
	done_testing();
	exit;
}

# --- the host, as the head of its unit says

my ($state, $dir) = ('/var/lib/tao', '/run/tao-test');
mkdir $dir;
chmod 01777, $dir;
spew("$dir/pass", "correct horse battery staple\n");
is(run(qw(systemctl is-system-running))->{out}, "running\n", 'systemd runs');
ok_run([ 'make', '-s', '-C', bldtop(), 'install' ], 'installed', { timeout => 300 });
place(config('TAO_BINDIR') . '/tao', $state);

# Whether it did that, which is a test.
sub systemctl {
	my ($verb, @units) = @_;
	# A unit may be started so many times in some seconds, until the count is reset.
	run(qw(systemctl reset-failed), @units) if $verb =~ /^(?:re)?start$/;
	return ok_run([ 'systemctl', $verb, @units ], "systemctl $verb @units")->{status} == 0;
}
sub property { return run('systemctl', 'show', '-P', $_[1], $_[0])->{out} =~ s/\n//r }
sub journal { return run(qw(journalctl --no-pager -o cat -u), $_[0])->{out} }
sub tao { return run(config('TAO_BINDIR') . '/tao', @_) }

systemctl('daemon-reload');
my $unit = slurp(bldtop() . '/conf/taod.service');
for my $line ($unit =~ /^#   (\S(?:.*\n#       )*.*)$/mg) {
	$line =~ s/\n#  +/ /g;
	$line =~ s{/tao init\b}{/tao init --passphrase-file $dir/pass};
	$line =~ s{^systemd-ask-password .*?\|}{head -c -1 $dir/pass |};
	ok_run([ 'sh', '-c', $line ], 'taod.service: # ' . substr $line, 0, 60);
}
is(property('taod', 'ActiveState'), 'active', 'taod is active');
{
	my ($pid) = slurp("$state/run/taod.pid") =~ /(\d+)/;
	is(property('taod', 'MainPID'), $pid, 'and its main process is known');
	my $process = slurp("/proc/$pid/status");
	my $uid = getpwnam 'tao';
	like($process, qr/^Uid:\t$uid\t$uid\t$uid\t.*^CapEff:\t0+\n.*^NoNewPrivs:\t1\n/ms, 'it has a user of its own, no capability, and gets none');
	unlike(slurp("$state/taod.log"), qr/ (?:warning|error): /, 'it warns of nothing');
	my $other = start_host();
	my $sandbox = sub { return $_[0] =~ /^(sandbox .*?)(?:, memory.*)?$/m ? $1 : $_[0] };
	is($sandbox->(tao('status')->{out}), $sandbox->($other->tao('status')->{out}), 'its sandbox is that of a host without a unit');
	$other->down;
}

# As logrotate does.
rename "$state/taod.log", "$state/taod.log.1" or die;
systemctl('reload', 'taod');
ok(wait_for(sub { -e "$state/taod.log" && slurp("$state/taod.log") =~ /the log is open anew/ }, 20), 'a reload begins another log');

# --- what clients see

sub seen {
	my ($s, $when) = @_;
	my $name = $s->{server} // 'www.example.org';
	for my $version ('1_2', '1_3') {
		my $got;
		wait_for(sub {
			$got = shown($s->{port}, $version, "$state/policy.pem",
				{ args => [ '-verify_hostname', $name, @{ $s->{args} // [] } ], until => qr/Verify return code|errno/ });
			return $got->{text} =~ /^Verification: OK\nVerified peername: \Q$name\E$/m && defined $got->{program};
		}, 30);
		like($got->{program} // '', qr/^Measured/, "$s->{name}, $when: a program's certificate for $name, TLS $version") and next;
		diag($got->{text}, journal(name_of($s)));
		return 0;
	}
	return 1;
}

sub name_of { my ($s) = @_; return defined $s->{instance} ? $s->{unit} =~ s/\@\./\@$s->{instance}./r : $s->{unit} }

# A restart ends when the host answers: what comes next finds it.
sub host_restarts { systemctl('restart', 'taod') }

sub put_drop_in {
	my ($s) = @_;
	my $to = "/etc/systemd/system/$s->{unit}.d";
	mkdir $to;
	spew("$to/tao.conf", here(drop_in($s)));
	systemctl('daemon-reload');
}

# Ends at the first failure: the next ones would only say it again.
sub service {
	my ($s) = @_;
	my $unit = name_of($s);
	systemctl('restart', $unit) && seen($s, 'started') or return;
	my $pid = property($unit, 'MainPID');
	like($pid, qr/^[1-9]/, "$s->{name}: its main process is known");
	like(run(qw(systemctl --no-pager status), $unit)->{out}, qr/ Active: active \(running\)/, "$s->{name}: its status");
	if (property($unit, 'CanReload') eq 'yes') {
		systemctl('reload', $unit);
		seen($s, 'reloaded') or return;
	}
	host_restarts();
	seen($s, 'with a host that was restarted') or return;
	my $same = drop_in($s) =~ /^PartOf=taod/m ? 0 : 1;
	is(property($unit, 'MainPID') eq $pid ? 1 : 0, $same, "$s->{name}: it is " . ($same ? 'the same process throughout' : 'started again with the host'));
	systemctl('restart', $unit) && seen($s, 'restarted') or return;
	systemctl('stop', $unit);
	is(property($unit, 'Result'), 'success', "$s->{name}: it stopped as it should");
	is(property($unit, 'NRestarts'), 0, "$s->{name}: and was never started by chance");
}

# --- nginx, in every situation

sub since { return property($_[0], 'ActiveEnterTimestampMonotonic') }

sub active { my ($unit) = @_; return wait_for(sub { property($unit, 'ActiveState') eq 'active' }, 60) }

sub nginx {
	my ($s) = @_;
	chdir $dir;
	spew('tao.conf', here(drop_in($s)));
	as_told('nginx', join '', common() =~ /^(# (?:install|systemctl).*\n)/mg);
	seen($s, 'as the page says');
	chdir '/';
	service($s);

	# taod is started with nginx, and before it.
	systemctl('stop', 'taod');
	systemctl('start', 'nginx');
	ok(since('taod') > 0 && since('taod') < since('nginx'), 'nginx: taod is started with it, and before');
	seen($s, 'with a host that it started');

	tao(qw(trust /usr/sbin/nginx --serves localhost));
	systemctl('restart', 'nginx');
	seen($s, 'with another name');
	my $load = load(443, "$state/policy.pem");
	for (1 .. 3) {
		systemctl('reload', 'nginx');
		$load->wait_more(6);
	}
	is(join("\n", $load->finish), '', 'nginx: no handshake fails while it is reloaded') or diag(journal('nginx'));

	my $pid = property('nginx', 'MainPID');
	for my $which ('keeper', 'measurer') {
		my @of = split ' ', slurp('/sys/fs/cgroup' . property('taod', 'ControlGroup') . '/cgroup.procs');
		my ($victim) = grep { my $is = slurp("/proc/$_/cmdline") =~ /--measurer/; $which eq 'measurer' ? $is : !$is } @of;
		my $before = property('taod', 'InvocationID');
		kill 'KILL', $victim;
		# That the measurer is gone is seen when it is asked.
		ok(wait_for(sub { tao(qw(run /bin/true)); property('taod', 'InvocationID') ne $before }, 60) && active('taod'), "systemd starts a host whose $which was killed");
		seen($s, "with a host whose $which was killed");
	}
	is(property('nginx', 'MainPID'), $pid, 'nginx: it has not noticed');

	# Without a host.
	systemctl('stop', 'taod');
	is(property('nginx', 'ActiveState'), 'active', 'nginx: it stays without a host');
	my $r = run(qw(openssl s_client -connect 127.0.0.1:443 -tls1_3));
	like($r->{out} . $r->{err}, qr/alert internal error/, 'nginx: without a host, handshakes end with an alert');
	systemctl('reload', 'nginx');
	systemctl('start', 'taod');
	seen($s, 'with the host back');
	systemctl('stop', 'nginx');

	# A host that cannot start.
	my $credential = '/etc/credstore.encrypted/tao.passphrase';
	systemctl('stop', 'taod');
	rename $credential, "$credential.not" or die $!;
	isnt(run(qw(systemctl start nginx))->{status}, 0, 'nginx: it does not start without a host');
	like(journal('nginx'), qr/tao run: the Tao host in \S+ is not running/, 'nginx: and its journal says why');
	rename "$credential.not", $credential or die $!;
	run(qw(systemctl reset-failed taod nginx));
	systemctl('start', 'nginx');
	seen($s, 'with the credential back');
	systemctl('stop', 'nginx');
}

my ($nginx, @others) = grep { $_->{configure} } services();
SKIP: {
	my $reason = configure($nginx, $dir);
	skip $reason, 1 if defined $reason;
	nginx($nginx);
	my ($version) = run('/usr/sbin/nginx', '-v')->{err} =~ m{nginx/1\.(\d+)};
	skip 'nginx takes no URI: it is older than 1.29', 1 if ($version // 0) < 29;
	my %store = (%$nginx, name => 'nginx, store', heading => 'nginx', drop_in => '^ExecStartPre=$');
	my $conf = slurp('/etc/nginx/nginx.conf');
	like($conf, qr/^ssl_certificate_key /m, 'nginx: the key can be named');
	spew('/etc/nginx/nginx.conf', $conf =~ s{^(ssl_certificate_key) .*;$}{$1 store:tao:web;}mr);
	put_drop_in(\%store);
	service(\%store);
}
for my $s (@others) {
	SKIP: {
		skip "$s->{name}: runtests --all", 1 if $s->{name} ne 'PostgreSQL' && !$ENV{TAO_TEST_ALL};
		my $reason = configure($s, $dir);
		skip $reason, 1 if defined $reason;
		put_drop_in($s);
		service($s);
	}
}
is(join('', grep { / (?:warning|error): / && !/the measurer was killed/ } split /^/, slurp("$state/taod.log")), '', 'the host warned of nothing else');
is(run(qw(systemctl is-system-running))->{out}, "running\n", 'systemd has nothing that failed') or diag(run(qw(systemctl --no-pager --failed))->{out});

done_testing();
