# Debian's programs with sealed keys, as servers and as clients: the table is test/lib/TaoApps.pm.
# Each also with a key from a file, as the control, and with --all with keys in the program's own custody. A
# running server or client shows the renewed certificate and the rotated key; where the host has
# custody, no memory holds the private key, and a key from a file is found. TAO_APPS names some of them.
use strict;
use warnings;
use IO::Handle;
use IO::Socket::INET;
use POSIX ();
use Test::More;
use TaoApps;
use TaoDaemon qw(holds_no_key holds_key);
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $dir = tmpdir();
my $host = start_host();
my $policy = $host->dir . '/policy.pem';

# The host's openssl.cnf, looking every second.
my $conf = $host->dir . '/openssl.cnf';
$host->set('renew = 1');

# --- another authority, with a server and a client: the control, and those who speak to the programs

sub quietly { my $r = run(@_); $r->{status} == 0 or die "@_: $r->{err}" }

quietly($openssl, qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=control),
	'-addext', 'keyUsage=critical,keyCertSign', '-keyout', "$dir/ca.key", '-out', "$dir/ca.pem");
for my $name (qw(server client)) {
	quietly($openssl, qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj), "/CN=$name",
		qw(-addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE), '-CA', "$dir/ca.pem", '-CAkey', "$dir/ca.key",
		'-keyout', "$dir/$name.key", '-out', "$dir/$name.pem");
}
chmod 0644, "$dir/server.key", "$dir/client.key"; # for those who read it again as another user
spew("$dir/clients.pem", slurp("$dir/ca.pem") . slurp($policy)); # whom servers trust

# --- who runs what

# What comes before a command, for root to run it as an account.
sub as {
	my ($account) = @_;
	return () if !defined $account || $> != 0;
	return ('setpriv', "--reuid=$account", "--regid=$account", '--init-groups');
}

sub uid { return defined $_[0] && $> == 0 ? scalar getpwnam $_[0] : $> }

# A key for a program in one of its roles, kind being tao (custody in the host), held (in the program) or
# file, and where it works.
sub setting {
	my ($app, $role, $kind, $name, %more) = @_;
	my $account = $app->{account};
	my %s = (dir => "$dir/$name", port => free_port(), port2 => free_port(), name => $name, user => $> == 0, clients => "$dir/clients.pem",
		as => [ as($account) ], uid => uid($account), kind => $kind, %more);
	mkdir $s{dir};
	chown $s{uid}, -1, $s{dir} if $> == 0;
	if ($kind ne 'file') {
		@s{qw(stub cert)} = map { $host->dir . "/$_/$s{uid}/$name.pem" } qw(keys certs);
		$s{subject} = 'key\(\['; # PostgreSQL keeps but the beginning
	} else {
		@s{qw(stub cert subject)} = ("$dir/$role.key", "$dir/$role.pem", 'client');
	}
	$s{ca} = "$dir/clients.pem";
	$s{bundled} = $app->{bundle};
	$s{key} = $app->{private} || $app->{bundle} ? "$s{dir}/key.pem" : $s{stub};
	return \%s;
}

# A key file of its own, for nobody else, and where it is wanted with the certificate before the key.
sub install_key {
	my ($app, $s) = @_;
	return if $s->{key} eq $s->{stub};
	spew($s->{key}, ($app->{bundle} ? slurp($s->{cert}) : '') . slurp($s->{stub}));
	chmod 0600, $s->{key};
	chown $s->{uid}, -1, $s->{key} if $> == 0;
}

sub make_key {
	my ($app, $s) = @_;
	my @args = $app->{args} ? ('--policy', 'exact', '--', $app->{args}->($s)) : ();
	my @user = ('--user', $s->{uid});
	my @custody = $s->{kind} eq 'held' ? ('--custody', 'program') : ();
	ok_run([$host->cmd('key', 'new', $s->{name}, '--for', $app->{program}, @user, @custody, @args)], "$s->{name}: a key");
	ok_run([$host->cmd('trust', $app->{program}, '--serves', 'localhost', @user)], "$s->{name}: serves localhost");
	quietly(@{ $s->{as} }, $host->cmd('run', '--prepare', $app->{program})) if $app->{bundle};
}

sub scanned {
	my ($s, $process) = @_;
	return if $s->{kind} eq 'held';
	return holds_key($s->{name}, $s->{stub}, $s->{bundled} ? $s->{dir} : $s->{cert}, $process->pid) if $s->{kind} eq 'file';
	holds_no_key($s->{name}, $host, $s->{stub}, $s->{bundled} ? $s->{dir} : $s->{cert}, $process->pid);
}

# The command, in `tao run` or without it.
sub started {
	my ($s, @cmd) = @_;
	return (@{ $s->{as} }, $s->{kind} ne 'file' ? $host->cmd('run', '--quiet', '--') : (), @cmd);
}

# What a process says of its children's deaths, and how its own would look: SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
my $crashed = qr/segmentation fault|signal 11|core dumped|dumped core/i;
my %crash = map { (128 + $_ => 1) } 4, 6, 7, 8, 11;

# The order in which libraries clean up is a place where programs with modules crash.
sub ends {
	my ($s, $process, $what) = @_;
	my $status = $process->stop // 0;
	my $said = join '', $process->log, map { slurp($_) } glob "$s->{dir}/*.log";
	ok(!$crash{$status} && $said !~ $crashed, "$what: nothing of it crashes at its end") or diag($status, ' ', $said =~ /(.*$crashed.*)/);
}

# --- servers

sub s_client {
	my ($app, $s, $version, @more) = @_;
	return ($openssl, 's_client', "-tls$version", '-connect', "127.0.0.1:$s->{port}", '-CAfile', $s->{verify},
		qw(-verify_return_error -verify_hostname localhost -nocommands -cert), "$dir/client.pem", '-key', "$dir/client.key",
		($app->{starttls} ? ('-starttls', $app->{starttls}) : ()), @more);
}

# Whether it shows a certificate now, and which.
sub shown {
	my ($app, $s) = @_;
	my $r = run(s_client($app, $s, '1_3'), { stdin => '', timeout => 20 });
	my ($pem) = $r->{out} =~ /(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n)/s;
	return '' if !$pem || $r->{out} !~ /Verify return code: 0/;
	return run($openssl, qw(x509 -noout -ext subjectAltName -serial -pubkey), { stdin => $pem })->{out};
}

sub public_key { return $_[0] =~ /(-----BEGIN PUBLIC KEY.*?-----END)/s ? $1 : '' }

sub asks {
	my ($app, $s, $version) = @_;
	my $what = "$s->{name}, TLS $version";
	my $said = talk($app->{say}, $app->{hear}, s_client($app, $s, $version, qw(-brief -ign_eof)));
	my $good = like($said, qr/Protocol version: TLSv\Q@{[ $version =~ tr{_}{.}r ]}\E$/m, "$what: the version");
	$good &= like($said, qr/^Signature type: $ECDSA_TYPE$/m, "$what: the client saw the signature");
	$good &= like($said, qr/^Verification: OK\nVerified peername: localhost$/m, "$what: and verified the name");
	$good &= like($said, $app->{hear}, "$what: an answer");
	if ($app->{writes}) {
		my ($file, $text) = @{ $app->{writes} };
		my $times = ++$s->{said};
		$good &= ok(wait_for(sub { $times == (() = (eval { slurp("$s->{dir}/$file") } // '') =~ /$text/g) }, 20),
			"$what: it took what was said");
	}
	return $good;
}

# A shell that connects again and again; what went wrong meanwhile, in each stretch between two that went well.
sub under_load {
	my ($app, $s, $code) = @_;
	my @cmd = map { "'$_'" } s_client($app, $s, '1_3', '-brief');
	my $load = spawn('/bin/sh', '-c', "while :; do if @cmd </dev/null >'$s->{dir}/load' 2>&1; then echo fine; else echo bad; cat '$s->{dir}/load'; fi; done");
	$load->wait_for_line(qr/fine\nfine/, 20);
	$code->();
	my $before = length $load->log;
	wait_for(sub { (() = substr($load->log, $before) =~ /^(?:fine|bad)/mg) >= 5 }, 20);
	$load->stop('KILL');
	kill 'KILL', -$load->pid;
	cmp_ok(scalar(() = $load->log =~ /^fine$/mg), '>=', 2, "$s->{name}: there was load");
	return $load->log =~ /^bad\n(.*?)(?=^fine|\z)/msg;
}

# With a connection that stays: some have the key only as long as there is one.
sub while_connected {
	my ($app, $s, $code) = @_;
	my ($fifo, $in) = held_open("$s->{dir}/held.in");
	my $client = spawn(s_client($app, $s, '1_3'), { stdin => $fifo });
	ok($client->wait_for_line(qr/Verify return code: 0/, 20), "$s->{name}: a connection that stays") or diag($client->log);
	$code->();
	close $in;
	$client->stop;
}

# What it shows changes, with the names and with a new generation of its key, and no client fails.
sub renews {
	my ($app, $s) = @_;
	my @user = ('--user', $s->{uid});
	my $key = public_key(shown($app, $s));
	my $last;
	my @bad = under_load($app, $s, sub {
		ok_run([$host->cmd('trust', $app->{program}, '--serves', "$s->{kind}.renewed.test", @user)], "$s->{name}: another name");
		my $shown = wait_for(sub { $last = shown($app, $s); $last =~ /\b$s->{kind}\.renewed\.test/ }, $app->{stays} ? 3 : 20);
		return ok(!$shown, "$s->{name}: does not show the new certificate: $app->{stays}") if $app->{stays};
		ok($shown, "$s->{name}: shows the new certificate without restart") or diag($last);
		ok_run([$host->cmd('key', 'rotate', $s->{name}, @user)], "$s->{name}: the key is rotated");
		ok(wait_for(sub { $last = shown($app, $s); $last && public_key($last) ne $key }, 20),
			"$s->{name}: shows the new key without restart") or diag($last);
		like($last, qr/\b$s->{kind}\.renewed\.test/, "$s->{name}: with a certificate for the same names");
	});
	# Between the two files that a rotation replaces is a moment, of whatever length.
	return cmp_ok(scalar @bad, '<=', 1, "$s->{name}: handshakes fail in one moment at most") || diag(@bad) if $app->{rereads};
	is(join("\n", @bad), '', "$s->{name}: no handshake fails meanwhile");
}

sub reloads {
	my ($app, $s, $server) = @_;
	my $bad = join "\n", under_load($app, $s, sub {
		return kill $app->{reload}, $server->pid if !ref $app->{reload};
		like($app->{reload}->($s, [ s_client($app, $s, '1_3', qw(-brief -ign_eof)) ]), qr/OK/, "$s->{name}: reloads");
	});
	if ($app->{gap}) {
		unlike($bad, qr/alert|verif\w+ error/i, "$s->{name}: no handshake fails while it reloads");
	} else {
		is($bad, '', "$s->{name}: no client fails while it reloads");
	}
	my $last;
	ok(wait_for(sub { $last = shown($app, $s) }, 20),
		"$s->{name}: serves after it") or diag($last, join ' ', @{[ run(s_client($app, $s, '1_3'))->{err} ]}, $server->log);
	ok($server->alive, "$s->{name}: runs on");
}

sub as_server {
	my ($app, $kind) = @_;
	my $s = setting($app, 'server', $kind, "$app->{name}-$kind");
	$s->{verify} = $kind ne 'file' ? $policy : "$dir/ca.pem";
	make_key($app, $s) if $kind ne 'file';
	install_key($app, $s);
	my @cmd = $app->{server}->($s);
	quietly('chown', '-R', uid($app->{owner} // $app->{account}), $s->{dir}) if $> == 0;
	my $server = spawn(started($s, @cmd), { dir => $s->{dir} });
	if (!wait_for(sub { !$server->alive || shown($app, $s) }, 30) || !$server->alive) {
		fail("$s->{name}: starts");
		diag($server->log, map { slurp($_) } glob "$s->{dir}/*.log");
		return;
	}
	$server->wait_for_line($app->{ready}, 30) if $app->{ready}; # it shows its certificate before
	my $fine = 1;
	$fine &= asks($app, $s, $_) for qw(1_3 1_2);
	my $one_version = ($app->{client} // {})->{one_version};
	as_client($app, $kind, $s, $server, $one_version ? '1_3' : ()) if $app->{client} && !$app->{client}{to};
	older_server($app, $kind, $s) if $one_version;
	while_connected($app, $s, sub { scanned($s, $server) });
	renews($app, $s) if $kind ne 'file';
	reloads($app, $s, $server) if $app->{reload};
	$fine or diag($server->log, map { slurp($_) } glob "$s->{dir}/*.log");
	ends($s, $server, $s->{name});
}

# Another one that has TLS 1.2 only, for clients which cannot be told.
sub older_server {
	my ($app, $kind, $like) = @_;
	my $s = { %$like, dir => "$like->{dir}-1_2", port => free_port(), port2 => free_port(), only => '1_2' };
	mkdir $s->{dir};
	chown $s->{uid}, -1, $s->{dir} if $> == 0;
	my @cmd = $app->{server}->($s);
	quietly('chown', '-R', uid($app->{owner} // $app->{account}), $s->{dir}) if $> == 0;
	my $server = spawn(started($s, @cmd), { dir => $s->{dir} });
	my $there = wait_for(sub { run(s_client($app, $s, '1_2'), { stdin => '', timeout => 20 })->{out} =~ /Verify return code: 0/ }, 30);
	ok($there && !shown($app, $s), "$s->{name}: has TLS 1.2 only") or diag($server->log);
	as_client($app, $kind, $s, $server, '1_2');
	$server->stop;
}

# --- clients

# What is connected to: it reverses lines, or answers with a page about the connection, or prints what it got. Without
# resumption: each handshake shows a certificate.
my %s_server = (rev => ['-rev'], www => ['-www'], print => []);

# A file to read from, and a handle to write to it: it has no end while there is the handle.
sub held_open {
	my ($fifo) = @_;
	unlink $fifo;
	POSIX::mkfifo($fifo, 0644) or die "$fifo: $!";
	open my $in, '+<', $fifo or die "$fifo: $!"; # both ways: or opening would wait for the other
	$in->autoflush(1);
	return ($fifo, $in);
}

sub s_server {
	my ($s, $to) = @_;
	my ($fifo, $in) = held_open("$s->{dir}/server.in");
	my $server = spawn($openssl, 's_server', "-tls$s->{version}", '-accept', "127.0.0.1:$s->{port}", '-cert', "$dir/server.pem",
		'-key', "$dir/server.key", qw(-Verify 3 -verify_return_error -no_ticket -no_cache -num_tickets 0 -CAfile), "$dir/clients.pem", @{ $s_server{$to} }, { stdin => $fifo });
	$server->{stdin} = $in;
	$server->wait_for_line(qr/ACCEPT/, 20);
	return $server;
}

# One exchange through a program that forwards it: the answer. `last`: there is none.
sub through {
	my ($s, $say, $last) = @_;
	my $c;
	wait_for(sub { $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $s->{port2}, Timeout => 20) }, 20) or return '';
	print $c $say;
	shutdown $c, 1 if $last;
	local $SIG{ALRM} = sub { shutdown $c, 2 };
	alarm 20;
	my $text = join '', <$c>;
	alarm 0;
	return $text;
}

# A running client, and how to make it speak once more: what it then prints, or hands on.
sub running_client {
	my ($client, $s, @cmd) = @_;
	my $say = $client->{say} // "hello\n";
	if ($client->{relay}) {
		my $relay = spawn(@cmd, { dir => $s->{dir} });
		return ($relay, sub { return through($s, $say, $client->{to} eq 'print') }, sub { });
	}
	my ($fifo, $in) = held_open("$s->{dir}/stdin");
	my $process = spawn(@cmd, { dir => $s->{dir}, stdin => $fifo });
	my $ask = sub {
		my $before = length $process->log;
		print $in $say;
		wait_for(sub { my $new = substr $process->log, $before; !$process->alive || $new =~ $client->{hear}->($s) }, 20);
		return substr $process->log, $before;
	};
	return ($process, $ask, sub { close $in; $process->wait(20) });
}

# The certificate in the page about a connection.
sub page_key { return $_[0] =~ /Public Key Algorithm:(.*?)X509v3/s ? $1 : '' }

# A client that goes on shows its new certificate, and then its new key, at its next connections.
sub client_renews {
	my ($client, $program, $s, $ask) = @_;
	my @user = ('--user', $s->{uid});
	my $last = $ask->();
	my $key = page_key($last);
	ok($key, "$s->{name}: as client, a certificate") or diag($last);
	ok_run([$host->cmd('trust', $program, '--serves', "$s->{kind}.client.test", @user)], "$s->{name}: another name");
	my $shown = wait_for(sub { $last = $ask->(); $last =~ /\b$s->{kind}\.client\.test/ }, $client->{stays} ? 3 : 20);
	return ok(!$shown, "$s->{name}: as client, does not show the new certificate: $client->{stays}") if $client->{stays};
	ok($shown, "$s->{name}: as client, shows the new certificate") or diag($last);
	ok_run([$host->cmd('key', 'rotate', $s->{name}, @user)], "$s->{name}: the key is rotated");
	ok(wait_for(sub { $last = $ask->(); page_key($last) && page_key($last) ne $key }, 20), "$s->{name}: as client, shows the new key")
	    or diag($last);
}

# One that would not wait is made to, by another command.
sub lingers {
	my ($client, $s, $log) = @_;
	my ($command, $until) = @{ $client->{linger} };
	my ($process, undef, $end) = running_client($client, $s, started($s, $command->($s)));
	ok(wait_for(sub { $log->() =~ $until }, 20), "$s->{name}: is connected") or diag($process->log, $log->());
	scanned($s, $process);
	$process->stop('KILL');
	$end->();
}

sub client_speaks {
	my ($client, $program, $s, $kind, $log) = @_;
	my @cmd = started($s, $client->{run}->($s));
	quietly('chown', '-R', $s->{uid}, $s->{dir}) if $> == 0;
	my ($process, $ask, $end) = running_client($client, $s, @cmd);
	my $said = $ask->();
	my $what = "$s->{name}, TLS $s->{version}";
	my $hear = $client->{hear} ? $client->{hear}->($s) : qr/olleh/;
	if ($client->{to} && $client->{to} eq 'print') {
		ok(wait_for(sub { $log->() =~ $hear }, 20), "$what: what it sends arrives") or diag($process->log, $log->());
	} else {
		like($said, $hear, "$what: sends and receives") or diag($process->log, $log->());
	}
	if ($s->{version} eq '1_3') {
		$client->{linger} ? lingers($client, $s, sub { substr $log->(), 0 }) : scanned($s, $process);
		client_renews($client, $program, $s, $ask) if $client->{goes_on} && $kind ne 'file';
	}
	$end->();
	ends($s, $process, $what);
	return $said . $process->log;
}

sub as_client {
	my ($app, $kind, $other, $server, @versions) = @_;
	my $client = $app->{client};
	my $program = $client->{program} // $app->{program};
	my $name = $client->{program} ? $program =~ s{.*/}{}r : "$app->{name}c";
	my $to = $client->{to} // '';
	for my $version (@versions ? @versions : qw(1_3 1_2)) {
		my $s = setting($client, 'client', $kind, $client->{args} ? "$name-$kind-$version" : "$name-$kind", version => $version);
		my $own = $to ? s_server($s, $to) : undef;
		my $log = sub { return ($own // $server)->log };
		$s->{port} = $other->{port} if $other;
		make_key({ %$client, program => $program }, $s) if $kind ne 'file' && !-e $s->{stub};
		install_key($client, $s);
		my $said = client_speaks($client, $program, $s, $kind, $log);
		my $what = "$s->{name}, TLS $version";
		my $seen = $client->{seen} ? $client->{seen}->($s) : $own ? qr/$s->{subject}/ : undef;
		my $all = $log->() . $said;
		like($all, $seen, "$what: the server knows who it is") if $seen;
		like($all, qr/^(?:Peer signature type|Signature type): $ECDSA_TYPE$/m, "$what: and saw its signature") if $own;
		like($all, qr/^\s*Protocol(?: version)?\s*: TLSv\Q@{[ $version =~ tr{_}{.}r ]}\E$/m, "$what: the version")
		    if $own && $to ne 'print';
		$own->stop if $own;
	}
}

# --- OpenVPN: two ends, each with a key of the host

sub openvpn {
	my ($version, $kind) = @_;
	my $app = { program => '/usr/sbin/openvpn' };
	my @ends = map { setting($app, $_, $kind, "openvpn-$_-$kind-$version") } qw(server client);
	my @ports = map { $_->{port} } @ends;
	my $max = $version =~ tr{_}{.}r;
	my @running;
	for my $i (0, 1) {
		my $s = $ends[$i];
		make_key($app, $s) if $kind ne 'file';
		push @running, spawn(started($s, $app->{program}, qw(--dev null --proto udp --dh none --verb 3 --local 127.0.0.1 --remote 127.0.0.1),
			'--lport', $ports[$i], '--rport', $ports[1 - $i], '--tls-' . (qw(server client))[$i], '--cert', $s->{cert}, '--key', $s->{key},
			'--ca', $s->{clients}, '--tls-version-min', '1.2', '--tls-version-max', $max, qw(--ping 1 --status), "$s->{dir}/status", 1,
			'--verify-x509-name', $kind ne 'file' ? ('localhost', 'name') : ((qw(client server))[$i], 'name')));
	}
	for my $i (0, 1) {
		my ($s, $p) = ($ends[$i], $running[$i]);
		my $what = "$s->{name}, TLS $version";
		ok($p->wait_for_line(qr/Initialization Sequence Completed/, 30), "$what: is up") or diag($p->log);
		like($p->log, qr/VERIFY OK: depth=0, .*(?:key\(\[|CN=client|CN=server).*Control Channel: TLSv\Q$max\E/s, "$what: knows the other");
		# Authenticated bytes of the tunnel, which the other sent.
		ok(wait_for(sub { (eval { slurp("$s->{dir}/status") } // '') =~ /^Auth read bytes,[1-9]/m }, 20), "$what: the other's data arrives");
		scanned($s, $p);
		kill 'USR1', $p->pid if $i == 0;
		ok($p->wait_for_line(qr/Initialization Sequence Completed.*Initialization Sequence Completed/s, 60), "$what: again after a reload")
		    or diag($p->log);
	}
	ends($ends[$_], $running[$_], "$ends[$_]{name}, TLS $version") for 0, 1;
}

# A server of many clients ends the tunnel of one that shows another certificate when new keys are negotiated. Both are in a
# network of their own.
sub openvpn_tunnel {
	my $net = spawn(qw(unshare --net sh -c), 'ip link set lo up && echo up && exec sleep 600');
	my $can = $> == 0 && -e '/dev/net/tun' && $net->wait_for_line(qr/^up/m, 5);
	SKIP: {
		skip 'openvpn: only root in a system with /dev/net/tun makes a tunnel', 5 if !$can;
		my $app = { program => '/usr/sbin/openvpn' };
		my $s = setting($app, 'server', 'tao', 'openvpn-tunnel');
		make_key($app, $s);
		my @run = (qw(nsenter --net -t), $net->pid, '--', started($s, $app->{program}), qw(--dev tun --topology subnet --proto udp --verb 3 --reneg-sec 5
			--cert), $s->{cert}, '--key', $s->{key}, '--ca', $s->{clients});
		my $server = spawn(@run, qw(--local 127.0.0.1 --port), $s->{port}, qw(--server 10.8.7.0 255.255.255.0 --dh none --remote-cert-tls client --duplicate-cn
			--keepalive 1 5 --tran-window 3));
		$server->wait_for_line(qr/Initialization Sequence Completed/, 30);
		my @client = (@run, qw(--client --nobind --remote 127.0.0.1), $s->{port}, qw(--remote-cert-tls server --route-nopull --connect-retry 1 1));
		my @ends = map { spawn(@client, @$_) } [qw(--auth-retry nointeract)], [];
		my $up = qr/Initialization Sequence Completed/;
		ok($_->wait_for_line($up, 30), 'a tunnel is up') or diag($_->log, $server->log) for @ends;
		quietly($host->cmd(qw(key rotate), $s->{name}));
		ok($ends[0]->wait_for_line(qr/$up.*$up/s, 60), 'and again after a rotation') or diag($ends[0]->log, $server->log);
		ok($ends[1]->wait_for_line(qr/AUTH_FAILED.*process exiting/s, 60), 'which ends a client that does not try again') or diag($ends[1]->log);
		quietly($host->cmd('revoke', $app->{program}));
		ok($ends[0]->wait_for_line(qr/$up.*$up.*ping-restart\] received/s, 40), 'the tunnel of a program that is revoked ends') or diag($ends[0]->log);
		quietly($host->cmd('revoke', $app->{program}, '--undo'));
		$_->stop for @ends, $server;
	}
	$net->stop;
}

# --- FreeRADIUS and wpa_supplicant's EAP peer: EAP-TLS

sub radius_conf {
	my ($s) = @_;
	spew("$s->{dir}/radiusd.conf", <<"CONF");
prefix = /usr
libdir = /usr/lib/freeradius
logdir = $s->{dir}
raddbdir = $s->{dir}
run_dir = $s->{dir}
name = radiusd
security {
	allow_vulnerable_openssl = yes
}
client localhost {
	ipaddr = 127.0.0.1
	secret = shared
}
modules {
	eap {
		default_eap_type = tls
		tls-config tao {
			private_key_file = $s->{key}
			certificate_file = $s->{cert}
			ca_file = $s->{clients}
			tls_min_version = "1.2"
			tls_max_version = "1.3"
			ecdh_curve = ""
		}
		tls {
			tls = tao
		}
	}
}
server default {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = $s->{port}
	}
	authorize {
		eap
	}
	authenticate {
		eap
	}
}
CONF
	return $s->{dir};
}

sub eapol_command {
	my ($s, $version, @more) = @_;
	my $other = $version eq '1_3' ? 'tls_disable_tlsv1_3=0' : 'tls_disable_tlsv1_3=1';
	my $conf = spew("$s->{dir}/eapol.conf", <<"CONF");
network={
	key_mgmt=WPA-EAP
	eap=TLS
	identity="hello"
	ca_cert="$s->{ca}"
	client_cert="$s->{cert}"
	private_key="$s->{key}"
	domain_match="localhost"
	phase1="$other"
}
CONF
	return ('/usr/bin/eapol_test', '-c', $conf, qw(-a 127.0.0.1 -s shared -p), $s->{port}, @more);
}

# Both know each other, and derive the same keys.
sub eapol_tries {
	my ($s, $c, $server, $version) = @_;
	my ($v, $what, $before) = ($version =~ tr{_}{.}r, "$s->{name}, TLS $version", length $server->log);
	my $r = run(started($c, eapol_command($c, $version)), { timeout => 60 });
	my $fine = like($r->{out}, qr/^MPPE keys OK: 1  mismatch: 0\nSUCCESS$/m, "$what: the client is let in, and has the server's keys");
	$fine &= like($r->{out}, qr/Using TLS version TLSv\Q$v\E$/m, "$what: the version");
	my $signed = $version eq '1_3' ? 'certificate verify' : 'server key exchange';
	$fine &= like($r->{out}, qr{RX ver=.*handshake/$signed\)}, "$what: the client saw the signature");
	my $log = substr $server->log, $before;
	$fine &= like($log, qr/recv TLS \Q$v\E Handshake, CertificateVerify/, "$what: the server saw the client's");
	$fine &= like($log, qr/TLS-Client-Cert-Subject.*$c->{subject}/, "$what: and knows who it is");
	$fine or diag($r->{out} =~ s/^.*hexdump.*\n//mgr, $log);
}

sub eapol_shown {
	my ($c) = @_;
	my $file = "$c->{dir}/seen.pem";
	unlink $file;
	run(started($c, eapol_command($c, '1_3', '-o', $file)), { timeout => 60 });
	my ($leaf) = (eval { slurp($file) } // '') =~ /.*(-----BEGIN CERT.*)/s; # the last one
	return run($openssl, qw(x509 -noout -pubkey -ext subjectAltName), { stdin => $leaf // '' })->{out};
}

# Renewed and rotated while it runs; the client's memory in the middle of its handshakes.
sub radius_goes_on {
	my ($s, $c, $server, $app) = @_;
	scanned($s, $server);
	my $client = spawn(started($c, eapol_command($c, '1_3', '-r', 10000)));
	ok($client->wait_for_line(qr/handshake\/certificate verify.*handshake\/certificate verify/s, 30), "$c->{name}: goes on and on");
	scanned($c, $client);
	$client->stop('KILL');
	return if $s->{kind} eq 'file';
	my $key = public_key(eapol_shown($c));
	my $last;
	ok_run([$host->cmd('trust', $app->{program}, '--serves', "$s->{kind}.renewed.test", '--user', $s->{uid})], "$s->{name}: another name");
	ok(wait_for(sub { $last = eapol_shown($c); $last =~ /\b$s->{kind}\.renewed\.test/ }, 20), "$s->{name}: shows the new certificate without restart")
	    or diag($last);
	ok_run([$host->cmd(qw(key rotate), $s->{name}, '--user', $s->{uid})], "$s->{name}: the key is rotated");
	ok(wait_for(sub { $last = eapol_shown($c); public_key($last) && public_key($last) ne $key }, 20),
		"$s->{name}: shows the new key without restart") or diag($last);
}

sub radius {
	my ($kind) = @_;
	my %app = (server => { program => '/usr/sbin/freeradius' }, client => { program => '/usr/bin/eapol_test' });
	my ($s, $c) = map { setting($app{$_}, $_, $kind, "eap-$_-$kind") } qw(server client);
	if ($kind ne 'file') {
		make_key($app{server}, $s);
		make_key($app{client}, $c);
	}
	$c->{port} = $s->{port};
	my $server = spawn(started($s, '/usr/sbin/freeradius', '-f', '-X', '-d', radius_conf($s)));
	ok($server->wait_for_line(qr/Ready to process requests/, 30), "$s->{name}: starts") or return diag($server->log);
	eapol_tries($s, $c, $server, $_) for qw(1_3 1_2);
	kill 'HUP', $server->pid;
	eapol_tries($s, $c, $server, '1_3');
	radius_goes_on($s, $c, $server, $app{server});
	$server->stop;
}

# --- OpenSSH: libcrypto with this configuration

sub openssh {
	my %env = (%{ preload_env() }, OPENSSL_CONF => $conf);
	my $port = free_port();
	my $made = $> == 0 && mkdir '/run/sshd', 0755;
	quietly('ssh-keygen', '-q', '-t', $_, '-N', '', '-f', "$dir/ssh-$_") for qw(ecdsa rsa);
	spew("$dir/sshd.conf", join '', map { "$_\n" } "ListenAddress 127.0.0.1:$port", "HostKey $dir/ssh-ecdsa", "HostKey $dir/ssh-rsa", 'UsePAM no',
		'StrictModes no', 'PermitRootLogin yes', 'PidFile none', "AuthorizedKeysFile $dir/ssh-ecdsa.pub $dir/ssh-rsa.pub");
	my $server = spawn('/usr/sbin/sshd', '-D', '-e', '-f', "$dir/sshd.conf", { env => \%env });
	$server->wait_for_line(qr/listening/, 20);
	for my $type (qw(ecdsa rsa)) {
		my $r = ok_run([ 'ssh', '-F', 'none', '-i', "$dir/ssh-$type", '-p', $port, qw(-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null
			-o IdentitiesOnly=yes -o BatchMode=yes -o KexAlgorithms=ecdh-sha2-nistp256 127.0.0.1), 'echo fine' ], "ssh with $type", { env => \%env });
		is($r->{out}, "fine\n", 'is undisturbed') or diag($server->log);
	}
	$server->stop;
	rmdir '/run/sshd' if $made;
}

# --- all of them

my %only = map { $_ => 1 } split ' ', $ENV{TAO_APPS} // '';
for my $app (applications()) {
	next if %only && !$only{ $app->{name} };
	SKIP: {
		my @missing = grep { !-e } $app->{program}, @{ $app->{modules} // [] }, ($app->{client} // {})->{program} // ();
		skip "$app->{name}: the Debian package $app->{package} is not installed", 1 if @missing;
		my $other = other_openssl($app->{program}, ($app->{client} // {})->{program} // ());
		skip "$app->{name}: $other", 1 if $other;
		skip "$app->{name}: $app->{heavy}: runtests --all runs it", 1 if $app->{heavy} && !$ENV{TAO_TEST_ALL} && !%only;
		skip "$app->{name}: it does not run with the sanitizers' runtime", 1 if $app->{no_asan} && config('TAO_ASAN');
		my @as = as($app->{account} // ($app->{client} // {})->{account});
		skip "$app->{name}: its account cannot reach the build tree", 1
		    if @as && run(@as, 'test', '-r', module_dir() . '/tao.so')->{status} != 0;
		for my $kind ('tao', 'file', $ENV{TAO_TEST_ALL} ? 'held' : ()) {
			as_server($app, $kind) if $app->{server};
			as_client($app, $kind) if $app->{client} && $app->{client}{to};
		}
	}
}

my %others = (freeradius => [ '/usr/sbin/freeradius', sub { radius($_) for qw(tao file held) }, '/usr/bin/eapol_test' ],
	openvpn => [ '/usr/sbin/openvpn', sub { for my $kind (qw(tao file held)) { openvpn($_, $kind) for qw(1_3 1_2) } openvpn_tunnel() } ], openssh => [ '/usr/sbin/sshd', \&openssh ]);
for my $name (sort keys %others) {
	my ($program, $code, @more) = @{ $others{$name} };
	next if %only && !$only{$name};
	SKIP: {
		my ($missing) = grep { !-e } $program, @more;
		skip "$name: $missing is not installed", 1 if $missing;
		skip "$name: a package of its own: runtests --all runs it", 1 if !$ENV{TAO_TEST_ALL} && !%only;
		skip "$name: this user has no shell", 1 if $name eq 'openssh' && (getpwuid $>)[8] =~ /nologin|false/;
		$code->();
	}
}

done_testing();
