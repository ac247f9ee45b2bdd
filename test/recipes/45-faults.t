# Servers and clients whose host fails them: it answers nonsense (test/tool/fakehost.c), late or not at
# all, is killed in the midst of a handshake, or restarted between two. Each time the connection at hand
# ends with an alert, what the program prints says why, and the next one succeeds, in the same process.
use strict;
use warnings;

use JSON::PP ();
use POSIX ();
use Test::More;
use TaoNginx;
use TaoTest;

need_programs(qw(openssl nginx curl));
my $openssl = '/usr/bin/openssl';
my ($nginx) = grep { -x } qw(/usr/sbin/nginx /usr/bin/nginx);
my $python = '/usr/bin/python3';
my $dir = tmpdir();

# --- the programs

my $script = spew("$dir/server.py", <<'PY');
import socket, ssl, sys
port, cert, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
listener = socket.create_server(("127.0.0.1", int(port)))
print("ready", flush=True)
while True:
    plain = listener.accept()[0]
    try:
        with context.wrap_socket(plain, server_side=True) as c:
            c.recv(100)
            c.sendall(b"hello\n")
    except OSError as e:
        print("error:", e, flush=True)
    plain.close()
PY

# What is printed of a failure: all of the error queue, or (Python) only its last entry, which is libssl's.
my %servers = (
	s_server => { program => $openssl, all => 1, args => sub {
		my ($port, $cert, $key) = @_;
		return ($openssl, qw(s_server -www -accept), "127.0.0.1:$port", '-cert', $cert, '-key', $key);
	} },
	nginx => { program => $nginx, all => 1, args => sub {
		my ($port, $cert, $key) = @_;
		my $conf = nginx_conf("$dir/nginx$port", $port, $cert, $key, { main => 'daemon off;', log => 'stderr', workers => 1 });
		return ($nginx, '-c', $conf, '-e', 'stderr');
	} },
	-x $python ? (python => { program => $python, all => 0, script => 1, args => sub {
		my ($port, $cert, $key) = @_;
		return ($python, $script, $port, $cert, $key);
	} }) : (),
);

# One connection by openssl s_client, which believes nothing: {good, alert, out}.
sub connects {
	my ($port, $ca, $version) = @_;
	my $r = run($openssl, 's_client', "-tls$version", '-connect', "127.0.0.1:$port", '-CAfile', $ca,
		qw(-verify_return_error -verify_hostname localhost -ign_eof), { stdin => "GET / HTTP/1.0\r\n\r\n", timeout => 30,
		env => { OPENSSL_CONF => '/dev/null' } });
	my ($alert) = $r->{err} =~ /alert ([a-z ]+):/;
	# The banner alone tells nothing: data has to come.
	my $good = $r->{out} =~ /^Peer signature type: /m && $r->{out} =~ /Verify return code: 0/ && $r->{out} =~ /^(?:hello|HTTP)/m;
	return { good => $good, alert => $alert // 'none', out => "$r->{out}$r->{err}" };
}

sub serves {
	my ($name, $s) = @_;
	for my $version ('1_3', '1_2') {
		my $r;
		ok(wait_for(sub { ($r = connects($s->{port}, $s->{ca}, $version))->{good} }, 20), "$name: serves, TLS $version")
		    or diag($r->{out}, $s->{process}->log);
	}
}

sub prints {
	my ($name, $s, $like, $from) = @_;
	$like = qr/error:.*(?:EVP lib|internal error|library)/i if !$s->{all};
	ok(wait_for(sub { substr($s->{process}->log, $from) =~ $like }, 10), "$name: and says so")
	    or diag("wanted $like\n", substr $s->{process}->log, $from);
}

# It fails, now, with an alert, and why is printed.
sub refuses {
	my ($name, $s, $like) = @_;
	for my $version ('1_3', '1_2') {
		my $from = length $s->{process}->log;
		my $r = connects($s->{port}, $s->{ca}, $version);
		ok(!$r->{good} && $r->{alert} =~ /^(?:internal error|handshake failure)$/, "$name, TLS $version: an alert")
		    or diag("alert: $r->{alert}\n$r->{out}");
		prints("$name, TLS $version", $s, $like, $from);
	}
	ok($s->{process}->alive, "$name: the server goes on");
}

diag('each answer and each TLS version with each program: runtests --all') if !$ENV{TAO_TEST_ALL};

# --- answers that are none

{
	my $fake = "$dir/fake";
	mkdir $fake;
	my $host = spawn(tool('fakehost'), $fake, 'web', { log => "$fake/log" });
	$host->wait_for_line(qr/^ready$/m, 20) // BAIL_OUT($host->log);
	chmod 0755, $fake;
	chmod 0666, "$fake/sock"; # for nginx' workers
	my $text = slurp(srctop() . '/conf/openssl.cnf.in');
	$text =~ s/\@MODULE@/@{[module_dir()]}\/tao.so/g;
	$text =~ s/\@SOCKET@/$fake\/sock/g;
	# Who is not answered waits for a moment; who is, on a busy machine, for as long as it takes.
	my ($moment, $patient) = map { my $ms = $_; +{ %{ preload_env() },
		OPENSSL_CONF => spew("$fake/openssl$ms.cnf", $text =~ s/^#timeout = .*$/timeout = $ms/mr) } } 300, 15000;
	my $mode = sub { spew("$fake/mode.new", join '', map { "$_\n" } @_); rename "$fake/mode.new", "$fake/mode" };
	my $broke = qr/the Tao host broke the protocol/;
	my @bad = (
		[ 'short', $broke ], [ 'empty', $broke ], [ 'long', $broke ], [ 'garbage', $broke ], [ 'frame', $broke ],
		[ 'huge', $broke ], [ 'seq', $broke ], [ 'bytes 0a00', $broke ],
		[ 'close', qr/the Tao host is not running: start it with 'tao up'/ ],
		[ 'silent', qr/the Tao host did not answer in time/ ], [ 'late 900', qr/the Tao host did not answer in time/ ],
		[ 'error 24', qr/the key's purpose does not allow this use/ ], [ 'error 99', qr/newer version of the Tao: upgrade this one/ ],
	);
	my $unanswered = qr/^(?:silent|late)/;
	my $server = sub {
		my ($name, $env) = @_;
		my $port = free_port();
		return { port => $port, ca => "$fake/ca.crt", all => $servers{$name}{all},
			process => spawn($servers{$name}{args}->($port, "$fake/web.crt", "$fake/web.pem"), { env => $env }) };
	};
	my $end = sub {
		my ($name, $s) = @_;
		serves("$name, again a host that answers", $s);
		$s->{process}->stop('KILL') if $name eq 'python';
		$s->{process}->stop;
	};
	my $answers_so = sub {
		my ($name, $s, $case) = @_;
		return if !$ENV{TAO_TEST_ALL} && $name ne 'nginx' && $case->[0] !~ /^(?:garbage|huge|late|close)/;
		$mode->("Tao.Sign $case->[0]");
		refuses("$name, $case->[0]", $s, $case->[1]);
		$mode->();
		# Who was not answered does not ask for a moment.
		serves("$name, after $case->[0]", $s) if $case->[0] =~ $unanswered;
	};
	for my $name (sort keys %servers) {
		my $s = $server->($name, $patient);
		serves("$name, a host that answers", $s);
		$answers_so->($name, $s, $_) for grep { $_->[0] !~ $unanswered } @bad;
		$end->($name, $s);

		$s = $server->($name, $moment);
		serves("$name, which waits for a moment", $s);
		$answers_so->($name, $s, $_) for grep { $_->[0] =~ $unanswered } @bad;
		if ($name ne 'python') { # one process does all handshakes
			my ($many, $began, $from) = (25, time, length $host->log);
			$mode->('Tao.Hello silent', 'Tao.Sign silent');
			my @r = map { connects($s->{port}, $s->{ca}, '1_3') } 1 .. $many;
			is(scalar(grep { $_->{good} } @r), 0, "$name, a silent host: $many handshakes fail");
			my $asked = () = substr($host->log, $from) =~ /^Tao\.(?:Hello|Sign)$/mg;
			# One that waits, one more at once, and from then on one each time the other 300 ms have passed as well.
			cmp_ok($asked, '<=', 3 + (time - $began + 1) / 0.6, "but it is asked $asked times");
			$mode->();
		}
		$end->($name, $s);
	}

	# curl, with a key of the host, prints the first entry of the queue.
	my $port = free_port();
	my $www = spawn($openssl, qw(s_server -www -Verify 1 -accept), "127.0.0.1:$port", '-cert', "$fake/web.crt", '-key', "$fake/web.key",
		'-CAfile', "$fake/ca.crt", { env => { OPENSSL_CONF => '/dev/null' } });
	$www->wait_for_line(qr/^ACCEPT/m, 20);
	my @curl = (qw(curl -sS --max-time 20 --cacert), "$fake/ca.crt", '--cert', "$fake/web.crt", '--key', "$fake/web.pem",
		'--resolve', "localhost:$port:127.0.0.1", "https://localhost:$port/");
	SKIP: {
		skip 'curl does not run with the sanitizers\' runtime', 1 if config('TAO_ASAN');
		for my $version ('1.3', '1.2') {
			my @now = (@curl, '--tls-max', $version);
			ok_run(\@now, "curl, TLS $version: a host that answers", { env => $patient });
			for my $case (@bad) {
				$mode->("Tao.Sign $case->[0]");
				fails_with(\@now, $case->[1], "curl, TLS $version, $case->[0]: says why",
					{ env => $case->[0] =~ $unanswered ? $moment : $patient });
				$mode->();
			}
			ok_run(\@now, "curl, TLS $version: again", { env => $patient });
		}
	}
	$www->stop;
	$host->stop('KILL');
}

# --- a host that is killed, stopped, restarted

my $host = start_host();
my @pass = ('--passphrase-file', $host->passfile);
$host->tao('down');
spew($host->dir . '/taod.conf', slurp($host->dir . '/taod.conf') . "\ntimeout = 4000\n"); # for its programs
$host->tao('up', @pass);
like(slurp($host->dir . '/openssl.cnf'), qr/^timeout = 4000$/m, 'a host whose programs wait for some seconds');
my $down = qr/the Tao host is not running: start it with 'tao up'/;

sub taod { return slurp($host->dir . '/run/taod.pid') + 0 }
sub stand_still {
	my ($pid) = @_;
	kill 'STOP', $pid;
	wait_for(sub { return slurp("/proc/$pid/stat") =~ /\) T / }, 20);
	return $pid;
}
sub up { return ok_run([ $host->cmd('up', @pass) ], $_[0]) }

# A handshake while the host stands still, and then is no more.
sub killed_amid {
	my ($name, $s, $version) = @_;
	my $from = length $s->{process}->log;
	my $pid = stand_still(taod());
	my $client = spawn($openssl, 's_client', "-tls$version", '-connect', "127.0.0.1:$s->{port}", '-CAfile', $s->{ca}, '-ign_eof',
		{ env => { OPENSSL_CONF => '/dev/null' } });
	$client->wait_for_line(qr/^CONNECTED/m, 20);
	kill 'KILL', $pid;
	ended($pid);
	$client->wait(20);
	like($client->log, qr/alert (?:internal error|handshake failure)/, "$name, TLS $version: killed during the handshake: an alert");
	prints("$name, TLS $version", $s, qr/$down|the Tao host did not answer in time/, $from); # if it stood still for long
	up("$name: the host is started again");
	serves("$name, TLS $version: afterwards", $s);
}

for my $name (sort keys %servers) {
	my $app = $servers{$name};
	my $port = free_port();
	my ($cert, $key) = map { $host->dir . "/$_/$>/$name.pem" } qw(certs keys);
	my %s = (port => $port, ca => $host->dir . '/policy.pem', all => $app->{all});
	my @args = $app->{args}->($port, $cert, $key);
	my @exact = $app->{script} ? ('--policy', 'exact', '--', @args[ 1 .. $#args ]) : ();
	ok_run([ $host->cmd(qw(key new), $name, '--for', $app->{program}, @exact) ], "$name: a key");
	ok_run([ $host->cmd('trust', $app->{program}, qw(--serves localhost)) ], "$name: serves localhost");
	$s{process} = spawn($host->cmd(qw(run --quiet --), @args));
	serves($name, \%s);
	killed_amid($name, \%s, $_) for '1_3', $ENV{TAO_TEST_ALL} || $name eq 'nginx' ? '1_2' : ();

	my $pid = stand_still(taod());
	refuses("$name, a host that stands still", \%s, qr/the Tao host did not answer in time/);
	# It was told to see tao status, which says more than that again.
	fails_with([ $host->cmd('status') ], qr/runs and does not answer: its process, .*'kill -CONT' has it go on/, 'tao status says what that may be')
	    if $name eq 'nginx';
	kill 'CONT', $pid;
	serves("$name, a host that goes on", \%s);

	ok_run([ $host->cmd('down') ], "$name: the host is taken down");
	refuses("$name, no host", \%s, $down);
	up("$name: and up");
	serves("$name, a new host", \%s);
	for my $round (1 .. ($ENV{TAO_TEST_ALL} ? 5 : 2)) {
		$host->tao('down');
		$host->tao('up', @pass);
		my $r = connects($port, $s{ca}, '1_3');
		ok($r->{good}, "$name: restarted between two handshakes, round $round: nothing is noticed") or diag($r->{out}, $s{process}->log);
	}
	$s{process}->stop('KILL') if $name eq 'python';
	$s{process}->stop;
}

SKIP: {
	skip 'curl does not run with the sanitizers\' runtime', 1 if config('TAO_ASAN');
	my $port = free_port();
	my @files = map { $host->dir . "/$_/$>/curl.pem" } qw(certs keys);
	ok_run([ $host->cmd(qw(key new curl --for /usr/bin/curl)) ], 'curl: a key');
	ok_run([ $host->cmd(qw(trust /usr/bin/curl)) ], 'curl is trusted');
	ok_run([ $host->cmd(qw(run /usr/bin/curl --version)) ], 'curl gets a certificate');
	run($openssl, qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext
		subjectAltName=DNS:localhost -keyout), "$dir/www.key", '-out', "$dir/www.crt");
	my $www = spawn($openssl, qw(s_server -www -Verify 3 -verify_return_error -accept), "127.0.0.1:$port", '-cert', "$dir/www.crt",
		'-key', "$dir/www.key", '-CAfile', $host->dir . '/policy.pem', { env => { OPENSSL_CONF => '/dev/null' } });
	$www->wait_for_line(qr/^ACCEPT/m, 20);
	my @curl = ($host->cmd(qw(run --quiet --)), qw(/usr/bin/curl -sS --max-time 20 --cacert), "$dir/www.crt",
		'--cert', $files[0], '--key', $files[1], '--resolve', "localhost:$port:127.0.0.1");
	my $url = "https://localhost:$port/";
	ok_run([ @curl, $url ], 'curl: a host that answers');
	# A second request on a connection of its own, for which it waits until the host is gone.
	my $fifo = "$dir/urls";
	POSIX::mkfifo($fifo, 0600);
	my $p = spawn(@curl, '--no-keepalive', '-H', 'Connection: close', '-K', $fifo);
	open my $urls, '>', $fifo or die "$fifo: $!\n";
	wait_for(sub { return grep { ($_->{program} // '') =~ m{/curl$} } @{ JSON::PP::decode_json($host->tao(qw(--json ps))->{out}) } }, 20);
	my $pid = taod();
	kill 'KILL', $pid;
	ended($pid);
	print $urls "url = $url\n";
	close $urls;
	like($p->wait(30) // 'still running', qr/^(?:35|56|58)\z/, 'curl, its host was killed: the connection fails');
	like($p->log, $down, 'and says why');
	up('curl: a new host');
	ok_run([ @curl, $url ], 'the next one succeeds');
	$www->stop;
}

done_testing();
