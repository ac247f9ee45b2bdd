# Debian's nginx as a daemon, with a sealed key: reloads and lost workers, and
# the upgrade of the running binary (USR2), to itself and to another executable that
# policy names its successor; under load. The same with a key in a file, and with the URI of the
# sealed one where nginx takes URIs.
use strict;
use warnings;
use File::Copy qw(copy move);
use Test::More;
use Time::HiRes qw(stat time);
use TaoDaemon;
use TaoNginx;
use TaoTest;

need_programs(qw(nginx curl openssl));
need_same_openssl('/usr/sbin/nginx');
plan skip_all => 'nginx clears the environment of its successor, and with it the sanitizers\' runtime' if config('TAO_ASAN');
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;

# A copy, for the upgrade replaces it.
my $nginx = "$dir/nginx";
copy('/usr/sbin/nginx', $nginx) or die;
chmod 0755, $nginx;
ok_run([ $host->cmd(qw(key new web --for), $nginx) ], 'a key');
ok_run([ $host->cmd('trust', $nginx, qw(--serves localhost)) ], 'trust');

sub configure {
	my ($name, $cert, $key, $port) = @_;
	return nginx_conf("$dir/$name", $port, $cert, $key, { main => 'env OPENSSL_CONF;', says => "worker \$pid saw \$uri\n" });
}

# Both versions, from a worker of that master.
sub serves {
	my ($what, $port, $ca, $program, $master) = @_;
	for my $version (qw(1_2 1_3)) {
		my ($got, $worker);
		wait_for(sub {
			$got = shown($port, $version, $ca, { say => "GET /told HTTP/1.0\r\n\r\n", until => qr/^(?:worker|closed).*$/ });
			($worker) = $got->{text} =~ m{^worker (\d+) saw /told$}m;
			return $worker && (eval { parent($worker) } // 0) == $master;
		}, 30);
		ok($worker && (eval { parent($worker) } // 0) == $master, "$what: TLS $version, data both ways") or diag($got->{text});
		ok($got->{verified} && $got->{signed} eq 'ECDSA', "$what: chain and signature") or diag($got->{text});
		is($got->{program}, $program, "$what: whose it is");
	}
}

# A master that forked away is found by way of its workers: the host writes its members down, a
# moment after the first of them asked for something.
sub known {
	my ($since) = @_;
	my $done = sub { return grep { (stat)[9] > $since } glob "$state/host/instances/*" };
	return ok(wait_for($done, 30), 'the host knows the master');
}

# USR2, until the new master's workers serve and the old ones are gone; the new master.
sub upgrade {
	my ($what, $at, $old) = @_;
	kill 'USR2', $old;
	ok(wait_for(sub { pid_in("$at/pid.oldbin") == $old && pid_in("$at/pid") && pid_in("$at/pid") != $old }, 30),
		"$what: there is a new master") or diag(slurp("$at/error.log"));
	my $new = pid_in("$at/pid");
	ok(wait_for(sub { workers($new) >= 2 }, 30), "$what: with workers");
	return $new;
}

sub whole {
	my ($what, $cert, $key, $ca, @start) = @_;
	my $port = free_port();
	my $at = "$dir/$what";
	my $conf = configure($what, $cert, $key, $port);
	ok_run([ @start, $nginx, '-c', $conf, '-e', "$at/error.log" ], "$what: starts, as a daemon");
	wait_for(sub { pid_in("$at/pid") }, 20);
	my $old = pid_in("$at/pid");
	my $name = @start ? program_of($host, 'web') : undef;
	ok(defined $name, "$what: the host knows it") if @start;
	my $since = time;
	serves($what, $port, $ca, $name, $old);
	known($since) if @start;
	my $load = load($port, $ca);

	$load->wait_more(4);
	my @before = workers($old);
	kill 'HUP', $old;
	ok(wait_for(sub { !grep { lives($_) } @before }, 30), "$what: reloaded");
	serves("$what, reloaded", $port, $ca, $name, $old);
	my ($victim) = workers($old);
	is(join("\n", $load->finish), '', "$what: no request failed");
	kill 'KILL', $victim;
	ok(wait_for(sub { !lives($victim) && workers($old) == 2 }, 30), "$what: a killed worker is replaced");
	serves("$what, worker replaced", $port, $ca, $name, $old);

	$load = load($port, $ca);
	for my $round ('same', @start ? 'successor' : ()) {
		$name = succeed($name) if $round eq 'successor';
		$load->wait_more(4);
		my $new = upgrade("$what, $round", $at, $old);
		$load->wait_more(6); # both masters' workers
		kill 'WINCH', $old;
		ok(wait_for(sub { !grep { $_ != $new } workers($old) }, 30), "$what, $round: the old workers go");
		# The manifest of the new one is its own: only the executable is known beforehand.
		my $got = shown($port, '1_3', $ca);
		$name = $got->{program} if $round eq 'successor' && ($got->{program} // '') =~ /^\Q$name\E/;
		serves("$what, $round", $port, $ca, $name, $new);
		kill 'QUIT', $old;
		ok(wait_for(sub { !lives($old) }, 30), "$what, $round: the old master ends");
		serves("$what, $round, alone", $port, $ca, $name, $new);
		my @workers = workers($new);
		kill 'HUP', $new;
		ok(wait_for(sub { !grep { lives($_) } @workers }, 30), "$what, $round: reloaded again");
		serves("$what, $round, reloaded", $port, $ca, $name, $new);
		$old = $new;
	}
	is(join("\n", $load->finish), '', "$what: no request failed at the upgrade");
	cmp_ok($load->done, '>', 10, "$what: of many");
	is(scalar(() = slurp("$at/error.log") =~ /\[(?:emerg|crit|error)\]/g), 0, "$what: no errors") or diag(slurp("$at/error.log"));
	kill 'TERM', $old;
	ok(wait_for(sub { !lives($old) }, 20), "$what: ends");
}

# Puts another executable in its place, which policy trusts; how its name begins.
sub succeed {
	my ($name) = @_;
	my ($old) = $name =~ /^Measured\(\[(\w+)/;
	spew("$nginx.new", slurp($nginx) . 'x');
	chmod 0755, "$nginx.new";
	my ($new) = run(qw(openssl dgst -sha256 -r), "$nginx.new")->{out} =~ /^(\w+)/;
	move("$nginx.new", $nginx) or die;
	ok_run([ $host->cmd(qw(policy add), "Successor([$new], [$old])") ], 'it succeeds the old one');
	ok_run([ $host->cmd('trust', $nginx, qw(--serves localhost)) ], 'and is trusted');
	return "Measured([$new],";
}

END { kill 'KILL', grep { $_ } map { pid_in("$dir/$_/pid") } qw(file sealed store stranger) if defined $dir }

controls(sub { whole('file', @{ file_key('file') }) });
whole('sealed', "$state/certs/$</web.pem", "$state/keys/$</web.pem", "$state/policy.pem", $host->cmd(qw(run --name web)));
SKIP: {
	my $said = run($nginx, '-v')->{err};
	my ($version) = $said =~ m{nginx/1\.(\d+)};
	skip "store: is for nginx 1.29 and later; $said", 1 if ($version // 0) < 29;
	whole('store', "$state/certs/$</web.pem", 'store:tao:web', "$state/policy.pem", $host->cmd(qw(run --name web)));
}

# --- an executable that nobody named: the old one goes on, the new one's log says why it does not serve

my $port = free_port();
ok_run([ $host->cmd(qw(run --name web), $nginx, '-c', configure('stranger', "$state/certs/$</web.pem",
	"$state/keys/$</web.pem", $port), '-e', "$dir/stranger/error.log") ], 'once more');
wait_for(sub { pid_in("$dir/stranger/pid") }, 20);
my $old = pid_in("$dir/stranger/pid");
my $name = program_of($host, 'web');
ok(defined $name, 'the host knows it');
my $since = time;
serves('before', $port, "$state/policy.pem", $name, $old);
spew("$nginx.new", slurp($nginx) . 'y');
chmod 0755, "$nginx.new";
move("$nginx.new", $nginx) or die;
known($since);
my $new = upgrade('a stranger', "$dir/stranger", $old);
kill 'WINCH', $old;
wait_for(sub { !grep { $_ != $new } workers($old) }, 30);
my $text = shown($port, '1_3', "$state/policy.pem", { say => "GET / HTTP/1.0\r\n\r\n" })->{text};
unlike($text, qr/^worker/m, 'a stranger does not serve');
like($text, qr/SSL alert number/, 'but is there');
ok(wait_for(sub { slurp("$dir/stranger/error.log") =~ /sealed for another program/ }, 10), 'its log says why') or
	diag(slurp("$dir/stranger/error.log"));
kill 'QUIT', $new;
kill 'HUP', $old;
serves('the old one, back', $port, "$state/policy.pem", $name, $old);
kill 'TERM', $old;
wait_for(sub { !lives($old) }, 20);

done_testing();
