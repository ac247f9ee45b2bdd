package TaoPairs;

# Debian's programs as client and server of each other, configured as by an administrator who knows nothing
# of Tao channels: a certificate for the server, none for the client. Each is a table entry:
#
#   name, package   what tests call it, and the Debian package
#   no_asan         it hangs or aborts with the sanitizers' runtime alone
#   heavy           reason why only --all runs it
#   host            the name that clients ask for
#   doctor          its protocol as tao doctor calls it, where TLS does not begin at once
#   groups          where the server sets its own: what the record of a client without the Tao has
#   server          program, account (which root starts it as), run => sub: its command line
#                     args     a sub: of the command line, those that are part of who it is: for an interpreter
#                     private  the key's file has to be its user's alone
#                     log      a file in dir where it says more
#                     ready    what it says when it is up; without it, its port is tried
#                     sees     what then stands in its log or in the client's output of who the
#                              client is: a sub of the hash of its executable
#   client          program, account, run => sub: its command line
#                     name     one that its certificate is to have as CN
#                     good     what it prints if it was served
#                     sees     what it prints of the server: a sub of the hash of its executable
#                     psk      what either prints of a connection with a pre-shared key
#   more            further clients of that server, once
#   twelve          what the client says that refuses a pre-shared key with TLS 1.2, where no certificate is shown
#
# A sub gets a hash: dir (scratch, the server's user's), port, host, cert, key (the server's files), ca
# (whom clients trust), clients (whom the server trusts), ask (whether it wants certificates), version
# (1.3 or 1.2), program (the client's executable), hash (its SHA-256), as (what starts a command as the server's user).

use strict;
use warnings;

use Exporter 'import';
use TaoTest;

our @EXPORT = qw(pairs);

sub newest { my ($name, $else) = @_; return ((reverse sort glob $name), $else)[0] }
my $postgres_bin = newest('/usr/lib/postgresql/*/bin', '/usr/lib/postgresql/15/bin');

sub conf {
	my ($s, $name, $text) = @_;
	return spew("$s->{dir}/$name", $text =~ s/^\t+//mgr);
}

# --- Python

my $python_server = <<'PY';
import socket, ssl, sys, threading
port, cert, key, ca, ask = open(sys.argv[1]).read().split()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
if ask == "1":
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
def serve(plain):
    try:
        with context.wrap_socket(plain, server_side=True) as c:
            print("client", c.getpeercert(), "reused", c.session_reused, flush=True)
            while data := c.recv(1000):
                c.sendall(data.upper())
    except OSError as e:
        print(e, flush=True)
listener = socket.create_server(("127.0.0.1", int(port)))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PY

my $python_client = <<'PY';
import socket, ssl, sys
port, host, ca, version = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.maximum_version = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
with context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))), server_hostname=host) as c:
    print("server", c.getpeercert(), "reused", c.session_reused)
    c.sendall(b"hello\n")
    print(c.recv(1000).decode())
PY

# --- PHP

my $php = newest('/usr/bin/php[0-9].[0-9]', '/usr/bin/php');

my $php_server = <<'PHP';
<?php
[$port, $cert, $key, $ca, $ask] = preg_split('/\s+/', file_get_contents($argv[1]));
$ssl = ["local_cert" => $cert, "local_pk" => $key];
$ssl += $ask ? ["cafile" => $ca, "verify_peer" => true, "verify_peer_name" => false, "capture_peer_cert" => true] : ["verify_peer" => false];
$listener = stream_socket_server("tls://127.0.0.1:$port", $code, $text, STREAM_SERVER_BIND | STREAM_SERVER_LISTEN,
    stream_context_create(["ssl" => $ssl]));
echo "ready\n";
while (true) {
    $c = @stream_socket_accept($listener, 3600);
    if (!$c) continue;
    $peer = stream_context_get_params($c)["options"]["ssl"]["peer_certificate"] ?? null;
    if ($peer) echo "client ", openssl_x509_parse($peer)["name"], "\n";
    if (($line = fgets($c)) !== false) fwrite($c, strtoupper($line));
    fclose($c);
}
PHP

my $php_client = <<'PHP';
<?php
[, $port, $host, $ca, $version] = $argv;
$methods = ["1.2" => STREAM_CRYPTO_METHOD_TLSv1_2_CLIENT, "1.3" => STREAM_CRYPTO_METHOD_TLSv1_3_CLIENT];
$c = stream_socket_client("tls://127.0.0.1:$port", $code, $text, 20, STREAM_CLIENT_CONNECT, stream_context_create(["ssl" => [
    "cafile" => $ca, "peer_name" => $host, "capture_peer_cert" => true, "crypto_method" => $methods[$version]]]));
if (!$c) exit("$text\n");
$peer = stream_context_get_params($c)["options"]["ssl"]["peer_certificate"] ?? null;
if ($peer) echo "server ", openssl_x509_parse($peer)["name"], "\n";
fwrite($c, "hello\n");
echo fgets($c);
PHP

# --- MariaDB: a client with OpenSSL, since Debian's has GnuTLS

my $mariadb_client = <<'PY';
import socket, ssl, struct, sys
port, host, ca, version, user = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.maximum_version = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
def packet(s):
    head = s.recv(4, socket.MSG_WAITALL)
    body = b""
    while len(body) < int.from_bytes(head[:3], "little"):
        body += s.recv(65536)
    return head[3], body
def send(s, number, body):
    s.sendall(len(body).to_bytes(3, "little") + bytes([number]) + body)
s = socket.create_connection(("127.0.0.1", int(port)))
packet(s)
flags = struct.pack("<IIB23x", 0x8A200 | 0x800, 1 << 24, 33) # 4.1, secure connection, plugin, TLS
send(s, 1, flags)
c = context.wrap_socket(s, server_hostname=host)
print("server", c.getpeercert(), "reused", c.session_reused)
send(c, 2, flags + user.encode() + b"\0\0mysql_native_password\0")
number, answer = packet_of = (lambda h: (h[3], c.recv(int.from_bytes(h[:3], "little"))))(c.recv(4))
print("logged in" if answer[0] == 0 else "no: " + answer.decode("latin1"))
PY

# --- all

my @table = (
	{
		name => 'postgres', package => 'postgresql', no_asan => 1, host => 'db.test', doctor => 'PostgreSQL', groups => qr/group=(?:secp256r1|prime256v1)/,
		server => {
			program => "$postgres_bin/postgres", account => 'postgres', private => 1, ready => qr/ready to accept connections/,
			run => sub {
				my ($s) = @_;
				my $data = "$s->{dir}/data";
				if (!-e $data) {
					my $r = run(@{ $s->{as} }, "$postgres_bin/initdb", qw(-A trust -U postgres --no-sync -D), $data);
					die "initdb: $r->{err}" if $r->{status} != 0;
				}
				conf($s, 'data/pg_hba.conf', $s->{ask} ? <<'CONF' : "hostssl all all 127.0.0.1/32 trust\n");
				hostssl all all 127.0.0.1/32 cert clientname=DN map=programs
CONF
				# One program is the user postgres, and no other is.
				conf($s, 'data/pg_ident.conf', 'programs "/^OU=key\(\[[0-9a-f]+\]\)\.DatalogGuard\(key\(\[[0-9a-f]+\]\)\)' .
					"\\.Measured\\(\\[$s->{hash}\\]\" postgres\n");
				conf($s, 'data/postgresql.auto.conf', <<"CONF");
				listen_addresses = '127.0.0.1'
				port = $s->{port}
				unix_socket_directories = ''
				fsync = off
				shared_buffers = 1MB
				ssl = on
				ssl_cert_file = '$s->{cert}'
				ssl_key_file = '$s->{key}'
				ssl_ca_file = '@{[ $s->{ask} ? $s->{clients} : '' ]}'
CONF
				return ("$postgres_bin/postgres", '-D', $data);
			},
			sees => sub { qr/^TLSv1\.3\|.*OU=key\(\[/m },
		},
		client => {
			program => "$postgres_bin/psql", run => sub {
				my ($s) = @_;
				return ($s->{program}, '-AtX', "host=$s->{host} hostaddr=127.0.0.1 port=$s->{port} user=postgres dbname=postgres " .
					"sslmode=verify-full sslrootcert=$s->{ca} ssl_max_protocol_version=TLSv$s->{version}",
					'-c', 'select version, client_dn from pg_stat_ssl where pid = pg_backend_pid()');
			},
			good => qr/^TLSv1\.\d\|/m,
		},
		twelve => qr/certificate could not be obtained/,
	},
	{
		name => 'mosquitto', package => 'mosquitto', host => 'localhost',
		server => {
			program => '/usr/sbin/mosquitto', account => 'mosquitto', ready => qr/ running$/,
			run => sub {
				my ($s) = @_;
				my $ask = $s->{ask} ? "cafile $s->{clients}\nrequire_certificate true\nuse_identity_as_username true" : 'allow_anonymous true';
				return ('/usr/sbin/mosquitto', '-c', conf($s, 'mosquitto.conf', <<"CONF"));
				listener $s->{port} 127.0.0.1
				certfile $s->{cert}
				keyfile $s->{key}
				$ask
CONF
			},
			sees => sub { qr/u'sensor\.test'/ },
		},
		client => {
			program => '/usr/bin/mosquitto_sub', name => 'sensor.test', run => sub {
				my ($s) = @_;
				return ($s->{program}, '-h', $s->{host}, '-p', $s->{port}, '--cafile', $s->{ca}, '--tls-version', "tlsv$s->{version}",
					qw(-t $SYS/broker/version -C 1 -W 20));
			},
			good => qr/^mosquitto version/m,
		},
		more => [ {
			program => '/usr/bin/mosquitto_pub', name => 'sensor.test', good => qr/sending DISCONNECT/, run => sub {
				my ($s) = @_;
				return ($s->{program}, '-d', '-h', $s->{host}, '-p', $s->{port}, '--cafile', $s->{ca}, qw(-q 1 -t t -m hello));
			},
		} ],
	},
	{
		name => 'python', package => 'python3', host => 'api.test',
		server => {
			program => '/usr/bin/python3', ready => qr/^ready/, args => sub { ("$_[0]{dir}/server.py", "$_[0]{dir}/server.conf") }, run => sub {
				my ($s) = @_;
				spew("$s->{dir}/server.py", $python_server);
				spew("$s->{dir}/server.conf", join "\n", @$s{qw(port cert key clients ask)});
				return ('/usr/bin/python3', "$s->{dir}/server.py", "$s->{dir}/server.conf");
			},
			sees => sub { qr/^client .*Measured.*$_[0].*reused/m },
		},
		client => {
			program => '/usr/bin/python3', run => sub {
				my ($s) = @_;
				return ($s->{program}, spew("$s->{dir}/client.py", $python_client), $s->{port}, $s->{host}, $s->{ca}, $s->{version});
			},
			good => qr/^HELLO/m, sees => sub { qr/^server .*Measured.*$_[0].*reused/m }, psk => qr/^server .*reused True/m,
		},
	},
	{
		name => 'php', package => 'php-cli', host => 'php.test', heavy => 'a package of its own', no_asan => 1,
		server => {
			program => $php, ready => qr/^ready/, args => sub { ("$_[0]{dir}/server.php", "$_[0]{dir}/server.conf") }, run => sub {
				my ($s) = @_;
				spew("$s->{dir}/server.php", $php_server);
				spew("$s->{dir}/server.conf", join "\n", @$s{qw(port cert key clients ask)});
				return ($php, "$s->{dir}/server.php", "$s->{dir}/server.conf");
			},
			sees => sub { qr/^client .*Measured.*$_[0]/m },
		},
		client => {
			program => $php, run => sub {
				my ($s) = @_;
				return ($s->{program}, spew("$s->{dir}/client.php", $php_client), $s->{port}, $s->{host}, $s->{ca}, $s->{version});
			},
			good => qr/^HELLO/m, sees => sub { qr/^server .*Measured.*$_[0]/m },
		},
		twelve => qr/Could not get peer certificate/,
	},
	{
		name => 'socat', package => 'socat', host => 'pipe.test', groups => qr/group=(?:secp256r1|prime256v1)/,
		server => {
			program => '/usr/bin/socat', ready => qr/listening on/, run => sub {
				my ($s) = @_;
				return ('/usr/bin/socat', '-d', '-d', "OPENSSL-LISTEN:$s->{port},bind=127.0.0.1,reuseaddr,fork,cert=$s->{cert},key=$s->{key}," .
					($s->{ask} ? "cafile=$s->{clients},verify=1" : 'verify=0'),
					'SYSTEM:echo "$SOCAT_OPENSSL_X509_SUBJECT"; cat');
			},
			sees => sub { qr/^[^\[]*O ?= ?[^\[]*key\(\[.*Measured.*$_[0]/m },
		},
		client => {
			program => '/usr/bin/socat', stdin => "hello\n", run => sub {
				my ($s) = @_;
				return ($s->{program}, '-t20', '-', "OPENSSL:127.0.0.1:$s->{port},commonname=$s->{host},snihost=$s->{host},cafile=$s->{ca},verify=" .
					($s->{version} eq '1.2' ? 0 : 1));
			},
			good => qr/^hello$/m,
		},
	},
	{
		name => 'redis', package => 'redis-server', host => 'cache.test', heavy => 'a package of its own',
		server => {
			program => '/usr/bin/redis-server', account => 'redis', ready => qr/Ready to accept connections/, run => sub {
				my ($s) = @_;
				my $ask = $s->{ask} ? 'yes' : 'no';
				return ('/usr/bin/redis-server', conf($s, 'redis.conf', <<"CONF"));
				bind 127.0.0.1
				port 0
				tls-port $s->{port}
				tls-cert-file $s->{cert}
				tls-key-file $s->{key}
				tls-ca-cert-file $s->{clients}
				tls-auth-clients $ask
				save ""
				dir $s->{dir}
CONF
			},
		},
		client => {
			program => '/usr/bin/redis-cli', run => sub {
				my ($s) = @_;
				return ($s->{program}, qw(--tls -h 127.0.0.1 -p), $s->{port}, '--sni', $s->{host}, '--cacert', $s->{ca}, qw(ECHO hello));
			},
			good => qr/^hello$/m,
		},
	},
	{
		name => 'mariadb', package => 'mariadb-server', host => 'sql.test', doctor => 'MariaDB', heavy => 'takes long to make its tables',
		server => {
			program => '/usr/sbin/mariadbd', account => 'mysql', ready => qr/ready for connections/, run => sub {
				my ($s) = @_;
				if (!-e "$s->{dir}/data") {
					my $r = run(@{ $s->{as} }, 'mariadb-install-db', '--no-defaults', "--datadir=$s->{dir}/data", '--skip-test-db',
						'--auth-root-authentication-method=normal', { timeout => 120 });
					die "mariadb-install-db: $r->{out}$r->{err}" if $r->{status} != 0;
				}
				my $require = $s->{ask} ? 'REQUIRE X509' : 'REQUIRE SSL';
				conf($s, 'init.sql', "CREATE OR REPLACE USER tao\@'%' $require;\n");
				return ('/usr/sbin/mariadbd', '--no-defaults', "--datadir=$s->{dir}/data", "--socket=$s->{dir}/sock",
				    '--bind-address=127.0.0.1', "--port=$s->{port}", "--ssl-cert=$s->{cert}", "--ssl-key=$s->{key}",
				    "--ssl-ca=$s->{clients}", "--pid-file=$s->{dir}/pid", "--init-file=$s->{dir}/init.sql",
				    '--innodb-buffer-pool-size=8M', '--innodb-buffer-pool-size-max=64M');
			},
		},
		client => {
			program => '/usr/bin/python3', run => sub {
				my ($s) = @_;
				return ($s->{program}, spew("$s->{dir}/client.py", $mariadb_client), $s->{port}, $s->{host}, $s->{ca}, $s->{version}, 'tao');
			},
			good => qr/^logged in/m, sees => sub { qr/^server .*Measured.*$_[0].*reused/m }, psk => qr/reused True/,
		},
	},
);

sub pairs { return @table }

1;
