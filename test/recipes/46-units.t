# What man/tao-applications.7 says, done word for word: the drop-ins of services are checked by
# systemd-analyze with Debian's units, and for nginx, HAProxy, Postfix, PostgreSQL, Mosquitto, Apache httpd, stunnel, lighttpd, Redis and Dovecot the
# page's commands, configuration and drop-in are put into a fresh machine's directories and run, in
# the order in which systemd would: before the start, start, reload, stop. The machine is a mount
# and network namespace of this recipe's own; the page's /usr/bin/tao and /var/lib/tao are the build tree's
# program and the host's directory.
use strict;
use warnings;
use Test::More;
use Text::ParseWords qw(shellwords);
use TaoDaemon;
use TaoTest;
use TaoUnits;

my ($state, $dir) = ('', tmpdir());
like(beginning(), qr/After=taod\.service.*^\[Service\]$/ms, 'how drop-ins begin');

# --- by systemd-analyze: each drop-in, with the unit it is for

my $page = slurp(srctop() . '/man/tao-applications.7');
my %service = map { $_->{name} => $_ } services();
{
	my @all = $page =~ /^\.Ss (.*)\n(?=(?:(?!^\.Ss ).*\n)*?^ExecStart=$)/mg;
	my %heading = map { ($_->{heading} // $_->{name}) => 1 } values %service;
	is(join("\n", sort @all), join("\n", sort keys %heading), 'the page has drop-ins for these and no others');
}
is(scalar(split /\n/, text('nginx', '^ExecStart=$')), 3, 'nginx: three lines');
is(slurp(bldtop() . '/conf/nginx-tao.conf') =~ /^\[Service\]\n(.*)/ms ? $1 =~ s{^(ExecStart=).*?/tao }{$1/usr/bin/tao }mr =~ s{=/\S*?/lib/tao/}{=/var/lib/tao/}r : '',
	text('nginx', '^ExecStart=$'), 'nginx: as in the sample file');

SKIP: {
	last SKIP if $ENV{TAO_UNITS};
	skip 'systemd-analyze is not installed', 1 if !-x '/usr/bin/systemd-analyze';
	my $limited = 0;
	for my $name (sort keys %service) {
		my $unit = $service{$name}{unit};
		SKIP: {
			skip "$name: $unit is not installed", 1 if !-e "$UNITS/$unit";
			my $instance = $unit =~ s/\@\./\@x./r;
			my $path = "$dir/units-$unit";
			mkdir $_ for $path, "$path/$unit.d";
			spew("$path/taod.service", "[Service]\nExecStart=/bin/true\n");
			spew("$path/$unit.d/tao.conf", drop_in($service{$name}) =~ s{/usr/bin/tao\b}{bin('tao')}ger);
			my $r = run(qw(systemd-analyze verify --man=no --recursive-errors=no), $instance, { env => { SYSTEMD_UNIT_PATH => "$path:" } });
			skip "$name: systemd-analyze does not work here: $r->{err}", 1 if $r->{err} =~ /Failed to (?:initialize|startup) manager/;
			my $u = unit({ %{ $service{$name} }, instance => 'x' });
			if ($u->{NoExecPaths}) {
				my @may = map { split } @{ $u->{ExecPaths} // [] };
				my @cannot = grep { my $program = (split)[0] =~ s/^[-+!:\@]+//r; !grep { index($program, $_) == 0 } @may }
				    map { @{ $u->{$_} // [] } } qw(ExecStartPre ExecStart ExecReload);
				is("@cannot", '', "$name: may execute what it starts");
				$limited++;
			}
			is(join("\n", grep { /tao/ } split /\n/, $r->{err}), '', "$name: nothing is said of its drop-in, for $unit");
		}
	}
	skip 'no unit that is installed limits what it executes, as that of Redis does', 1 if !$limited;
}

# --- done: what systemd would do

plan_end('only root has such namespaces') if $> != 0;
plan_end('they do not run with the sanitizers\' runtime') if config('TAO_ASAN');
if (!$ENV{TAO_UNITS}) {
	my @unshare = qw(unshare --mount --net --propagation private);
	plan_end('namespaces are not permitted here') if run(@unshare, qw(ip link set lo up))->{status} != 0;
	my $r = run(@unshare, $^X, (map { "-I$_" } @INC), $0, { env => { TAO_UNITS => 1 }, timeout => 560 });
	diag($1) while $r->{out} =~ /# skip (.*)/g;
	my ($done) = $r->{out} =~ /^1\.\.(\d+)$/m;
	ok($r->{status} == 0 && ($done // 0) > 20, 'in a machine of its own') or diag($r->{out}, $r->{err});
	done_testing();
	exit;
}
sub plan_end {
	diag("not done by hand: $_[0]");
	done_testing();
	exit;
}

run(qw(ip link set lo up));
run(qw(mount -t tmpfs -o mode=755 none), $_) for qw(/run /etc/systemd/system);
mkdir '/run/lock';
my $host = start_host();
$state = $host->dir;
place(bin('tao') . " -d $state", $state);

# --- a unit: what is left of it with its drop-in

sub unit {
	my ($s) = @_;
	my %u = (env => {});
	my @lines = split /\n/, (slurp("$UNITS/$s->{unit}") . "\n" . here(drop_in($s))) =~ s/\\\n//gr;
	for (@lines) {
		my ($key, $value) = /^(\w+)=(.*)$/ or next;
		$value =~ s/%[iI]/$s->{instance}/g if defined $s->{instance};
		if ($key =~ /^Exec/) {
			$u{$key} = [ $value eq '' ? () : (@{ $u{$key} // [] }, $value) ];
		} elsif ($key eq 'Environment') {
			$u{env} = { %{ $u{env} }, map { /^(\w+)=(.*)$/s } shellwords($value) };
		} else {
			$u{$key} = $value;
		}
	}
	$u{name} = $s->{name};
	return \%u;
}

sub command {
	my ($u, $line, %more) = @_;
	my %env = (%{ $u->{env} }, %more);
	my @words = map { /^\$(\w+)$/ ? shellwords($env{$1} // '') : s/\$(\w+)/$env{$1} \/\/ ''/ger } shellwords($line =~ s/^[-+!:\@]+//r);
	my @user = $u->{User} ? ('setpriv', "--reuid=$u->{User}", '--regid=' . (getpwnam $u->{User})[3], '--init-groups') : ();
	return (@user, 'env', '-i', (map { "$_=$env{$_}" } keys %env), 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', @words);
}

sub each_of {
	my ($u, $key, %more) = @_;
	for my $line (@{ $u->{$key} // [] }) {
		my $r = run(command($u, $line, %more));
		ok($r->{status} == 0 || $line =~ /^-/, "$u->{name}: $key=" . substr $line, 0, 60) or diag($line, "\n", $r->{out}, $r->{err});
	}
}

sub main_pid {
	my ($u) = @_;
	return $u->{process}->pid if $u->{process};
	return slurp($u->{PIDFile}) =~ s/\D//gr;
}

sub starts {
	my ($u) = @_;
	my @uid = defined $u->{User} ? (getpwnam $u->{User})[2, 3] : (0, 0);
	for my $at ((map { "/run/$_" } grep { defined } $u->{RuntimeDirectory}), map { "/var/log/$_" } grep { defined } $u->{LogsDirectory}) {
		mkdir $at;
		chown @uid, $at;
	}
	each_of($u, 'ExecStartPre');
	return each_of($u, 'ExecStart') if $u->{Type} eq 'forking';
	$u->{process} = spawn(command($u, $u->{ExecStart}[0]));
}

sub stops {
	my ($u) = @_;
	my $pid = main_pid($u);
	each_of($u, 'ExecStop', MAINPID => $pid);
	kill 'TERM', $pid;
	ok(wait_for(sub { ended($pid, 0) }, 30), "$u->{name}: stops");
}

# A service: from its start to its stop, seen by a client.
sub service {
	my ($u, $s) = @_;
	my $name = $s->{server} // 'www.example.org';
	starts($u);
	my $seen = sub {
		my ($when) = @_;
		my $got;
		my @args = ('-verify_hostname', $name, @{ $s->{args} // [] });
		wait_for(sub { $got = shown($s->{port}, '1_3', "$state/policy.pem", { args => \@args, until => qr/Verify return code|errno/ }); $got->{text} =~ /Verification: OK/ }, 20);
		like($got->{text}, qr/^Verification: OK\nVerified peername: \Q$name\E$/m, "$u->{name}, $when: chain and name")
		    or diag($got->{text}, $u->{process} ? $u->{process}->log : '');
		like($got->{program} // '', qr/^Measured/, "$u->{name}, $when: a program's certificate");
	};
	$seen->('started');
	each_of($u, 'ExecReload', MAINPID => main_pid($u));
	$seen->('reloaded');
	stops($u);
}

# --- one after the other

for my $s (grep { $_->{configure} } services()) {
	SKIP: {
		my $reason = configure($s, $dir);
		skip $reason, 1 if defined $reason;
		my $u = unit($s);
		if ($s->{name} eq 'nginx') {
			my $good = slurp('/etc/nginx/nginx.conf');
			spew('/etc/nginx/nginx.conf', $good =~ s/listen/lisen/r);
			isnt(run(command($u, $u->{ExecStartPre}[0]))->{status}, 0, 'nginx: the check finds a mistake');
			spew('/etc/nginx/nginx.conf', $good);
		}
		service($u, $s);
	}
}

done_testing();
