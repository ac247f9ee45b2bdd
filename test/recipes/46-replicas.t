# Servers that are clients of their like, with a sealed key: Mosquitto's bridge, replicas of Redis,
# PostgreSQL and MariaDB, BIND's secondary, Dovecot as proxy and with another server's mailboxes. What they
# connect to wants their certificate, and says what they showed and what they signed with; it
# stands before a server of the same kind, data goes both ways, and after the connection was cut they
# show the renewed certificate and the rotated key. The same with a key from a file, and with one in the
# program's own custody. TAO_APPS names some of them.
use strict;
use warnings;
use Cwd qw(abs_path);
use Test::More;
use TaoDaemon qw(controls holds_no_key holds_key family);
use TaoDovecot;
use TaoTest;

need_programs(qw(openssl python3));
plan skip_all => 'some of them do not run with the sanitizers\' runtime' if config('TAO_ASAN');
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;
my $openssl = '/usr/bin/openssl';
$host->set('renew = 1');

sub quietly { my $r = run(@_); $r->{status} == 0 or die "@_: $r->{out}$r->{err}"; return $r->{out} }

quietly($openssl, qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=control),
	'-addext', 'keyUsage=critical,keyCertSign', '-keyout', "$dir/ca.key", '-out', "$dir/ca.pem");
for my $name (qw(server client)) {
	quietly($openssl, qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj), "/CN=$name",
		'-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', qw(-addext basicConstraints=CA:FALSE), '-CA', "$dir/ca.pem", '-CAkey', "$dir/ca.key",
		'-keyout', "$dir/$name.key", '-out', "$dir/$name.pem");
	chmod 0644, "$dir/$name.key";
}
spew("$dir/cas.pem", slurp("$dir/ca.pem") . slurp("$state/policy.pem"));

sub as { my ($account) = @_; return defined $account && $> == 0 ? ('setpriv', "--reuid=$account", '--regid=' . (getpwnam $account)[3], '--init-groups') : () }
sub uid { return defined $_[0] && $> == 0 ? scalar getpwnam $_[0] : $> }

# --- what stands before the server: TLS with a client certificate on one side, nothing on the other. A signal cuts
# all connections. What OpenSSL verified it hands to the callback, the client's CertificateVerify among it.

my $front_script = spew("$dir/front.py", <<'PY');
import base64, select, signal, socket, ssl, sys, threading
port, to, version, cert, key, ca, greeting = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
context.load_verify_locations(ca)
context.verify_mode = ssl.CERT_REQUIRED
context.minimum_version = context.maximum_version = ssl.TLSVersion["TLSv" + version]
context.num_tickets = 0
context.options |= ssl.OP_NO_TICKET
context.set_alpn_protocols(["dot"])
schemes, live = {}, set()
def message(conn, direction, version, content, kind, data):
    if direction == "read" and getattr(kind, "name", "") == "CERTIFICATE_VERIFY":
        schemes[conn.fileno()] = data[4:6].hex()
context._msg_callback = message
def serve(plain):
    try:
        if greeting == "postgres":
            plain.recv(8)
            plain.sendall(b"S")
        if greeting == "mysql":
            with socket.create_connection(("127.0.0.1", int(to))) as back:
                plain.sendall(back.recv(1000))
            plain.recv(36)
        tls = context.wrap_socket(plain, server_side=True)
        print("peer", tls.version(), schemes.pop(tls.fileno(), "none"), base64.b64encode(tls.getpeercert(True)).decode(), flush=True)
        if greeting == "mysql":
            raise OSError("no more than that")
        back = socket.create_connection(("127.0.0.1", int(to)))
        live.update((tls, back))
        while True:
            for s in [tls] if tls.pending() else select.select([tls, back], [], [])[0]:
                data = s.recv(65536)
                if not data:
                    raise OSError("end")
                (back if s is tls else tls).sendall(data)
    except (OSError, ValueError) as e:
        print(e, flush=True)
    finally:
        for s in [x for x in ("tls", "back") if x in locals()]:
            live.discard(locals()[s])
            locals()[s].close()
        plain.close()
def cut(*_):
    for s in list(live):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
signal.signal(signal.SIGUSR1, cut)
listener = socket.create_server(("127.0.0.1", int(port)))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PY

sub front {
	my ($port, $to, $version, $greeting) = @_;
	my $front = spawn('/usr/bin/python3', $front_script, $port, $to, $version, "$dir/server.pem", "$dir/server.key", "$dir/cas.pem", $greeting // '');
	$front->wait_for_line(qr/^ready$/, 20) or die $front->log;
	return $front;
}

# What the last one showed.
sub last_peer {
	my ($front) = @_;
	my ($version, $scheme, $cert) = ($front->log =~ /^peer (\S+) (\S+) (\S+)$/mg)[-3 .. -1];
	return { text => '', key => '' } if !defined $cert;
	my $pem = "-----BEGIN CERTIFICATE-----\n" . $cert =~ s/(.{1,64})/$1\n/gr . "-----END CERTIFICATE-----\n";
	my $text = run($openssl, qw(x509 -noout -subject -pubkey -ext subjectAltName), { stdin => $pem })->{out};
	return { version => $version, scheme => $scheme, text => $text, key => $text =~ /(-----BEGIN PUBLIC.*)-----END/s ? $1 : '' };
}

# --- keys

# kind: tao (custody in the host), held (in the program) or file.
sub setting {
	my ($app, $kind, $version) = @_;
	my %s = (kind => $kind, version => $version, name => "$app->{name}-$kind-$version", uid => uid($app->{account}),
		own => uid($app->{owner} // $app->{account}), port => free_port(), front => free_port(), back => free_port(), ca => "$dir/cas.pem", as => [ as($app->{account}) ]);
	$s{dir} = "$dir/$s{name}";
	mkdir $s{dir};
	chown $s{own}, -1, $s{dir} if $> == 0;
	$s{key_name} = $kind eq 'tao' ? $app->{name} : "$app->{name}-$kind";
	@s{qw(cert stub)} = $kind eq 'file' ? ("$dir/client.pem", "$dir/client.key") : map { "$state/$_/$s{uid}/$s{key_name}.pem" } qw(certs keys);
	@s{qw(server_cert server_key)} = ("$dir/server.pem", "$dir/server.key");
	make_key($app, \%s) if !-e $s{stub};
	$s{key} = $s{stub};
	$s{key} = spew("$s{dir}/key.pem", slurp($s{stub})) if $app->{private};
	chmod 0600, $s{key} if $app->{private};
	return \%s;
}

sub make_key {
	my ($app, $s) = @_;
	my @user = ('--user', $s->{uid});
	my @custody = $s->{kind} eq 'held' ? ('--custody', 'program') : ();
	ok_run([ $host->cmd('key', 'new', $s->{key_name}, '--for', $app->{program}, @user, @custody) ], "$s->{key_name}: a key");
	ok_run([ $host->cmd('trust', $app->{program}, '--serves', 'localhost', @user) ], "$s->{key_name}: a name");
	ok_run([ @{ $s->{as} }, $host->cmd('run', '--prepare', $app->{program}) ], "$s->{key_name}: a certificate");
}

sub app_conf {
	my ($s, $name, $text) = @_;
	return spew("$s->{dir}/$name", $text =~ s/^\t+//mgr);
}

# --- who connects to whom

# One line to a port, and what comes until a pattern.
sub said {
	my ($port, $say, $until) = @_;
	my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) or return '';
	print $c $say;
	local $SIG{ALRM} = sub { shutdown $c, 2 };
	alarm 10;
	my $text = '';
	while ($text !~ $until && sysread $c, my $more, 4096) { $text .= $more }
	alarm 0;
	return $text;
}

sub connects { my ($port) = @_; return wait_for(sub { IO::Socket::INET->new("127.0.0.1:$port") }, 30) }

# What is said on one side arrives on the other, by Mosquitto's own clients.
sub passes {
	my ($from, $to, $text) = @_;
	my $sub = spawn('mosquitto_sub', qw(-h 127.0.0.1 -t t -p), $to);
	my $got = wait_for(sub { run('mosquitto_pub', qw(-h 127.0.0.1 -t t -p), $from, '-m', $text); $sub->log =~ /^\Q$text\E$/m }, 30);
	$sub->stop;
	return $got;
}

my $n = 0; # no text is said twice

my ($postgres_bin) = ((reverse sort glob '/usr/lib/postgresql/*/bin'), '/usr/lib/postgresql/15/bin');
sub psql {
	my ($s, $port, $sql) = @_;
	return run(@{ $s->{as} }, "$postgres_bin/psql", '-AtX', "host=127.0.0.1 port=$port user=postgres dbname=postgres sslmode=disable", '-c', $sql)->{out};
}

my $postgres_conf = "unix_socket_directories = ''\nlisten_addresses = '127.0.0.1'\nfsync = off\nshared_buffers = 1MB\nhot_standby_feedback = on\nwal_receiver_status_interval = 1\nwal_retrieve_retry_interval = 200\n";

my @table = (
	{
		name => 'mosquitto', program => '/usr/sbin/mosquitto', account => 'mosquitto', needs => ['mosquitto_sub'],
		back => sub {
			my ($s) = @_;
			return (@{ $s->{as} }, '/usr/sbin/mosquitto', '-c', app_conf($s, 'back.conf', "listener $s->{back} 127.0.0.1\nallow_anonymous true\n"));
		},
		run => sub {
			my ($s) = @_;
			return ('/usr/sbin/mosquitto', '-c', app_conf($s, 'bridge.conf', <<"CONF"));
			listener $s->{port} 127.0.0.1
			allow_anonymous true
			connection other
			address localhost:$s->{front}
			topic t both
			restart_timeout 1 1
			bridge_cafile $s->{ca}
			bridge_certfile $s->{cert}
			bridge_keyfile $s->{key}
CONF
		},
		both => sub {
			my ($s) = @_;
			$n++;
			return passes($s->{port}, $s->{back}, "there $n") && passes($s->{back}, $s->{port}, "back $n");
		},
	},
	{
		name => 'redis', program => '/usr/bin/redis-server', account => 'redis',
		back => sub {
			my ($s) = @_;
			return (@{ $s->{as} }, qw(/usr/bin/redis-server --bind 127.0.0.1 --repl-diskless-sync-delay 0 --save), '', '--dir', $s->{dir}, '--port', $s->{back});
		},
		run => sub {
			my ($s) = @_;
			return ('/usr/bin/redis-server', app_conf($s, 'replica.conf', <<"CONF"));
			bind 127.0.0.1
			port $s->{port}
			replicaof 127.0.0.1 $s->{front}
			tls-replication yes
			tls-cert-file $s->{cert}
			tls-key-file $s->{key}
			tls-ca-cert-file $s->{ca}
			save ""
			dir $s->{dir}
CONF
		},
		# WAIT is answered when a replica has acknowledged.
		both => sub {
			my ($s) = @_;
			$n++;
			return wait_for(sub { said($s->{back}, "SET k there$n\r\nWAIT 1 5000\r\n", qr/^:\d/m) =~ /^\+OK\r\n:1/m }, 30) &&
			    wait_for(sub { said($s->{port}, "GET k\r\n", qr/^there|^\$-1|^-/m) =~ /^there$n/m }, 30);
		},
	},
	{
		name => 'postgres', program => "$postgres_bin/postgres", account => 'postgres', private => 1, greeting => 'postgres',
		back => sub {
			my ($s) = @_;
			quietly(@{ $s->{as} }, "$postgres_bin/initdb", qw(-A trust -U postgres --no-sync -D), "$s->{dir}/primary");
			app_conf($s, 'primary/postgresql.auto.conf', $postgres_conf . "port = $s->{back}\n");
			return (@{ $s->{as} }, "$postgres_bin/postgres", '-D', "$s->{dir}/primary");
		},
		run => sub {
			my ($s) = @_;
			wait_for(sub { psql($s, $s->{back}, 'create table if not exists said (n int); select 1') =~ /^1$/m }, 30);
			quietly(@{ $s->{as} }, "$postgres_bin/pg_basebackup", qw(-h 127.0.0.1 -U postgres --no-sync -c fast -p), $s->{back}, '-D', "$s->{dir}/standby");
			app_conf($s, 'standby/standby.signal', '');
			app_conf($s, 'standby/postgresql.auto.conf', $postgres_conf . <<"CONF");
			port = $s->{port}
			primary_conninfo = 'host=localhost hostaddr=127.0.0.1 port=$s->{front} user=postgres sslmode=verify-full sslrootcert=$s->{ca} sslcert=$s->{cert} sslkey=$s->{key}'
CONF
			return ("$postgres_bin/postgres", '-D', "$s->{dir}/standby");
		},
		both => sub {
			my ($s) = @_;
			$n++;
			psql($s, $s->{back}, "insert into said values ($n)");
			return wait_for(sub { psql($s, $s->{port}, 'select max(n) from said') =~ /^$n$/ }, 30) &&
			    wait_for(sub { psql($s, $s->{back}, 'select replay_lsn >= pg_current_wal_lsn() from pg_stat_replication') =~ /^t$/m }, 30);
		},
	},
	{
		# From 11 on, a replica frees the key of a file when it is connected.
		forgets => sub { return run('/usr/sbin/mariadbd', '--version')->{out} =~ /Ver (\d+)/ && $1 >= 11 },
		name => 'mariadb', program => '/usr/sbin/mariadbd', account => 'mysql', heavy => 'takes long to make its tables', greeting => 'mysql',
		back => sub { return mariadbd($_[0], 'back', '--log-bin=log', '--ssl-cert=' . $_[0]{server_cert}, '--ssl-key=' . $_[0]{server_key},
			"--ssl-ca=$_[0]{ca}", '--tls-version=TLSv' . $_[0]{version} =~ tr{_}{.}r) },
		run => sub {
			my ($s) = @_;
			my $issuer = quietly($openssl, qw(x509 -noout -issuer -nameopt compat -in), $s->{cert}) =~ s/^issuer=\s*|\n//gr;
			mariadb($s, 'back', "create database d; create table d.said (n int); create user r\@'%' require issuer '$issuer'; " .
				"grant replication slave on *.* to r\@'%'");
			return mariadbd($s, 'port');
		},
		to => sub {
			my ($s, $port) = @_;
			wait_for(sub { mariadb($s, 'port', 'select 1') }, 30);
			mariadb($s, 'port', "stop slave; change master to master_host='127.0.0.1', master_port=$port, master_user='r', master_connect_retry=1, " .
				"master_ssl=1, master_ssl_verify_server_cert=1, master_ssl_ca='$s->{ca}', master_ssl_cert='$s->{cert}', master_ssl_key='$s->{key}'; start slave");
		},
		both => sub {
			my ($s) = @_;
			$n++;
			mariadb($s, 'back', "insert into d.said values ($n)");
			return wait_for(sub { mariadb($s, 'port', 'select max(n) from d.said') =~ /^$n$/ }, 30) || diag(mariadb($s, 'port', 'show slave status\G')) && 0;
		},
	},
	{
		name => 'bind', program => '/usr/sbin/named', owner => 'bind', heavy => 'a package of its own', needs => ['dig'],
		back => sub { return named($_[0], 'back', <<"CONF") },
			zone "hello.test" { type primary; file "$_[0]{dir}/hello.zone"; allow-transfer { any; }; notify no; };
CONF
		run => sub { return named($_[0], 'port', <<"CONF") },
			tls upstream { cert-file "$_[0]{cert}"; key-file "$_[0]{key}"; ca-file "$_[0]{ca}"; remote-hostname "localhost"; };
			zone "hello.test" { type secondary; file "$_[0]{dir}/copy.zone"; primaries { 127.0.0.1 port $_[0]{front} tls upstream; };
			    min-refresh-time 1; max-refresh-time 1; min-retry-time 1; max-retry-time 1; request-ixfr no; };
CONF
		# It asks, and has the zone: again whenever there is a new one.
		both => sub {
			my ($s) = @_;
			$n++;
			zone($s);
			kill 'HUP', $s->{back_pid};
			return wait_for(sub { run('dig', qw(+short +tcp @127.0.0.1 -p), $s->{port}, qw(hello.test TXT))->{out} =~ /"there $n"/ }, 60);
		},
	},
	{
		name => 'proxy', program => '/usr/lib/dovecot/imap-login', account => 'dovenull', master => 'root', each => 1, hold => \&imap_login,
		needs => ['/usr/sbin/dovecot'], back => \&imap_server, both => \&imap_speaks, run => sub {
			my ($s) = @_;
			my %to = (host => 'localhost', hostip => '127.0.0.1', port => $s->{front}, ssl => 'yes', proxy => 'y');
			return dovecot($s, 'port', dovecot_24() ? <<"NEW" : <<"OLD");
			passdb static {
			  password = secret
			  fields {
			    @{[ join "\n    ", map { "$_ = $to{$_}" } sort keys %to ]}
			  }
			}
NEW
			passdb {
			  driver = static
			  args = password=secret @{[ join ' ', map { "$_=$to{$_}" } sort keys %to ]}
			}
OLD
		},
	},
	{
		name => 'imapc', heavy => 'one more program of Dovecot', program => '/usr/lib/dovecot/imap', account => 'nobody', master => 'root', each => 1, hold => \&imap_login,
		needs => ['/usr/sbin/dovecot'], back => \&imap_server, both => \&imap_speaks, run => sub {
			my ($s) = @_;
			return dovecot($s, 'port', dovecot_users("$s->{dir}/home") . dovecot_mail("imapc:$s->{dir}/local") . <<"CONF");
			imapc_host = localhost
			imapc_port = $s->{front}
			imapc_ssl = imaps
			imapc_user = u
			imapc_password = secret
CONF
		},
	},
);

# --- Dovecot

# As `c`: what it answers to these lines, until the last is.
sub imap {
	my ($c, @lines) = @_;
	print $c map { "$_\r\n" } @lines;
	local $SIG{ALRM} = sub { shutdown $c, 2 };
	alarm 20;
	my $text = '';
	while ($text !~ /^$#lines (?:OK|NO|BAD)/m && sysread $c, my $more, 4096) { $text .= $more }
	alarm 0;
	return $text;
}

sub imap_login {
	my ($s) = @_;
	my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $s->{port}, Timeout => 5) or return;
	return imap($c, '0 login u secret') =~ /^0 OK/m ? $c : undef;
}

sub imap_speaks {
	my ($s) = @_;
	my $name = 'there' . ++$n;
	my $c;
	wait_for(sub { $c = imap_login($s) }, 30) or return 0;
	return imap($c, "0 create $name", '1 list "" *', '2 logout') =~ /^\* LIST .*$name/m;
}

sub imap_server {
	my ($s) = @_;
	return dovecot($s, 'back', dovecot_users("$s->{dir}/home") . dovecot_mail("maildir:$s->{dir}/mail"));
}

# One that listens there, and shows a certificate where it is a client.
sub dovecot {
	my ($s, $port, $more) = @_;
	mkdir "$s->{dir}/$_" for qw(mail home local);
	chown uid('nobody'), -1, map { "$s->{dir}/$_" } qw(mail home local);
	my $common = dovecot_common("$s->{dir}/$port", 'no', "inet_listener imap {\n    port = $s->{$port}\n  }");
	return (qw(/usr/sbin/dovecot -F -c), app_conf($s, "$port.conf", $common . (dovecot_24() ? <<"NEW" : <<"OLD") . $more));
	ssl_client_ca_file = $s->{ca}
	ssl_client_cert_file = $s->{cert}
	ssl_client_key_file = $s->{key}
	auth_allow_cleartext = yes
NEW
	ssl_ca = <$s->{ca}
	ssl_require_crl = no
	ssl_client_ca_file = $s->{ca}
	ssl_client_cert = <$s->{cert}
	ssl_client_key = <$s->{key}
	disable_plaintext_auth = no
OLD
}

sub mariadbd {
	my ($s, $port, @more) = @_;
	my $data = "$s->{dir}/$port";
	quietly(@{ $s->{as} }, 'mariadb-install-db', '--no-defaults', "--datadir=$data", qw(--skip-test-db --auth-root-authentication-method=normal), { timeout => 120 });
	return (@{ $port eq 'back' ? $s->{as} : [] }, '/usr/sbin/mariadbd', '--no-defaults', "--datadir=$data", "--socket=$data/sock", '--bind-address=127.0.0.1', "--port=$s->{$port}",
	    "--pid-file=$data/pid", '--server-id=' . $s->{$port}, qw(--innodb-buffer-pool-size=8M --innodb-buffer-pool-size-max=64M), @more);
}

sub mariadb {
	my ($s, $port, $sql) = @_;
	return run('mariadb', '--no-defaults', "--socket=$s->{dir}/$port/sock", qw(-u root -N -e), $sql)->{out};
}

sub zone {
	my ($s) = @_;
	spew("$s->{dir}/hello.zone", "\$TTL 1\n\@ 60 IN SOA localhost. root.localhost. " . ($n + 1) . " 1 1 3600 1\n\@ 60 IN NS localhost.\n\@ 1 IN TXT \"there $n\"\n");
}

sub named {
	my ($s, $port, $more) = @_;
	zone($s) if $port eq 'back';
	return ('/usr/sbin/named', '-g', ($> == 0 ? qw(-u bind) : ()), '-c', app_conf($s, "$port.conf", <<"CONF"));
	controls { };
	options {
	    directory "$s->{dir}"; pid-file none; session-keyfile none; managed-keys-directory "$s->{dir}";
	    recursion no; dnssec-validation no; listen-on port $s->{$port} { 127.0.0.1; }; listen-on-v6 { none; };
	};
	$more
CONF
}

# --- what is expected of each

sub showed {
	my ($s, $front, $what) = @_;
	my $peer = last_peer($front);
	is($peer->{version}, "TLSv$s->{version}" =~ tr{_}{.}r, "$what: the version");
	is($peer->{scheme}, '0403', "$what: the other saw its signature");
	like($peer->{text} // '', $s->{kind} ne 'file' ? qr/subject=.*key\(\[.*Measured/ : qr/subject=.*CN ?= ?client/, "$what: and knows who it is");
	return $peer;
}

# While it is connected.
sub scanned {
	my ($app, $s, $process) = @_;
	my $held = $app->{hold} && $app->{hold}->($s);
	my @pids = grep { (readlink("/proc/$_/exe") // '') eq abs_path($app->{program}) } family($process->pid);
	ok(@pids > 0, "$s->{name}: runs");
	return if $s->{kind} eq 'file' && $app->{forgets} && $app->{forgets}->();
	return holds_key($s->{name}, $s->{stub}, $app->{master} ? $dir : $s->{cert}, @pids) if $s->{kind} eq 'file';
	holds_no_key($s->{name}, $host, $s->{stub}, $app->{master} ? $state : $s->{cert}, @pids);
}

# Cut, until what it shows next is so.
sub shows_next {
	my ($app, $s, $front, $code) = @_;
	my $peer;
	return wait_for(sub {
		my $before = () = $front->log =~ /^peer/mg;
		kill 'USR1', $front->pid;
		$app->{both}->($s) if $app->{each};
		wait_for(sub { (() = $front->log =~ /^peer/mg) > $before }, 5);
		return $code->($peer = last_peer($front)) ? $peer : undef;
	}, 60);
}

sub goes_on {
	my ($app, $s, $front, $key) = @_;
	my @user = ('--user', $s->{uid});
	ok_run([ $host->cmd('trust', $app->{program}, '--serves', "$s->{kind}.renewed.test", @user) ], "$s->{name}: another name");
	ok(shows_next($app, $s, $front, sub { $_[0]{text} =~ /\b$s->{kind}\.renewed\.test/ }), "$s->{name}: shows the new certificate");
	ok_run([ $host->cmd('key', 'rotate', $s->{key_name}, @user) ], "$s->{name}: the key is rotated");
	if ($app->{private}) { # a copy, which is to be made again
		spew($s->{key}, slurp($s->{stub}));
	}
	ok(shows_next($app, $s, $front, sub { $_[0]{key} ne $key }), "$s->{name}: shows the new key");
	$app->{to}->($s, $s->{back}) if $app->{to};
	ok($app->{both}->($s), "$s->{name}: data both ways after it");
}

sub replica {
	my ($app, $kind, $version) = @_;
	my $s = setting($app, $kind, $version);
	my @back = $app->{back}->($s);
	quietly('chown', '-R', $s->{own}, $s->{dir}) if $> == 0 && !$app->{master};
	my $back = spawn(@back, { dir => $s->{dir} });
	$s->{back_pid} = $back->pid;
	connects($s->{back}) or return fail("$s->{name}: what it connects to starts") || diag($back->log);
	my $front = front($s->{front}, $s->{back}, $version, $app->{greeting});
	my @cmd = $app->{run}->($s);
	quietly('chown', '-R', $s->{own}, $s->{dir}) if $> == 0 && !$app->{master};
	my @as = $app->{master} ? () : @{ $s->{as} };
	my $process = spawn(@as, $kind ne 'file' ? $host->cmd('run', '--quiet', '--') : (), @cmd, { dir => $s->{dir} });
	$app->{to}->($s, $s->{back}) if $app->{to};
	my $fine = ok($app->{both}->($s), "$s->{name}: data both ways");
	if (!$fine) {
		diag($process->log, $front->log =~ s/^(peer.{40}).*/$1/mgr, $back->log, map { slurp($_) } glob "$s->{dir}/*/log");
		$_->stop for $process, $front, $back;
		return;
	}
	if ($app->{to}) {
		$app->{to}->($s, $s->{front});
		wait_for(sub { $front->log =~ /^peer.*\n/m }, 20);
	}
	my $peer = showed($s, $front, $s->{name});
	scanned($app, $s, $process) if $version eq '1_3' && $kind ne 'held';
	goes_on($app, $s, $front, $peer->{key}) if $version eq '1_3' && $kind ne 'file';
	$_->stop for $process, $front, $back;
}

my %only = map { $_ => 1 } split ' ', $ENV{TAO_APPS} // '';
for my $app (@table) {
	next if %only && !$only{ $app->{name} };
	SKIP: {
		my @missing = grep { my $p = $_; !-e $p && !grep { -x "$_/$p" } split /:/, $ENV{PATH} } $app->{program}, @{ $app->{needs} // [] };
		skip "$app->{name}: @missing not installed", 1 if @missing;
		my $other = other_openssl($app->{program});
		skip "$app->{name}: $other", 1 if $other;
		skip "$app->{name}: $app->{heavy}: runtests --all runs it", 1 if $app->{heavy} && !$ENV{TAO_TEST_ALL} && !%only;
		skip "$app->{name}: starts as root only", 1 if $app->{master} && $> != 0;
		my @as = as($app->{account});
		skip "$app->{name}: its account cannot reach the build tree", 1 if @as && run(@as, 'test', '-r', module_dir() . '/tao.so')->{status} != 0;
		replica($app, 'tao', $_) for qw(1_3 1_2);
		controls(sub { for my $kind (qw(file held)) { replica($app, $kind, $_) for qw(1_3 1_2) } });
	}
}

done_testing();
