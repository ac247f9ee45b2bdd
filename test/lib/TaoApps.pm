package TaoApps;

# Programs that use the system's OpenSSL, as an administrator configures them. Each is a table entry:
#
#   name       what tests call it; package: the Debian package which has it
#   program    what runs: its key belongs to it
#   account    the account that root starts it as; without it, root
#   owner      whose its directory is, where that is another one, to whom it changes by itself
#   modules    other files without which it cannot be tested
#   args       arguments as `tao key new --policy exact` wants them: for interpreters
#   no_asan    it hangs or aborts with the sanitizers' runtime alone, without our modules
#   heavy      reason why only --all runs it
#   server     sub: writes its configuration and returns its command line, for the foreground
#   starttls   what s_client -starttls calls its protocol
#   say, hear  what s_client sends, and what then comes back
#   writes     a file in dir, and what the server then writes there, when it does not answer
#   reload     the signal that makes it read its files again, or a sub which does that, given what connects to it
#              as well, and returns OK
#   gap        it reloads, but nobody listens for a moment
#   private    the key's file has to be its user's alone
#   ready      what it logs when it serves, where it shows its certificate before
#   stays      why a running server does not show a renewed certificate
#   rereads    it reads both files for each connection, and may find them between two generations
#   bundle     its key's file has the certificate before the key
#   client     the same as a client, of the server above or, with `to`, of s_server, which reverses lines ('rev'), answers
#              with a page about the connection ('www') or prints what it gets ('print'):
#                program, account, args, private, bundle  as above
#                run        sub: its command line; it does not end while its standard input is open
#                relay      it forwards what comes to port2
#                say, hear  what is written to it, and a sub that returns what then comes back ('print': arrives)
#                one_version  it cannot be told which: for TLS 1.2, its server has no other where there is `only`
#                seen       a sub: what then stands in the server's log
#                linger     [SUB, LOG], where it does end: another command line, and what the server's log has when it waits
#                goes_on    it connects anew whenever something is said, and so shows renewed certificates
#                stays      or why not
#
# A sub gets a hash: dir (scratch), port, port2 (another free one), version ('1_3' or '1_2'), cert,
# key (files), ca (whom clients trust), clients (whom servers trust), user ('' unless root), only ('1_2', or nothing).

use strict;
use warnings;

use Exporter 'import';
use TaoTest;

our @EXPORT = qw(applications);

# Where each release of Debian has them.
sub newest { my ($name, $else) = @_; return ((reverse sort glob $name), $else)[0] }
my $postgres_bin = newest('/usr/lib/postgresql/*/bin', '/usr/lib/postgresql/15/bin');
my $php = newest('/usr/bin/php[78].[0-9]', '/usr/bin/php8.2');

my %dotted = ('1_3' => '1.3', '1_2' => '1.2');

sub conf {
	my ($s, $name, $text) = @_;
	return spew("$s->{dir}/$name", $text =~ s/^\t+//mgr);
}

sub nginx_conf {
	my ($s, $server) = @_;
	my $user = $s->{user} ? 'user www-data;' : '';
	my $temp = join ' ', map { "${_}_temp_path $s->{dir}/$_;" } qw(client_body proxy fastcgi uwsgi scgi);
	return conf($s, 'nginx.conf', <<"CONF");
	daemon off; $user worker_processes 2; pid $s->{dir}/pid; error_log $s->{dir}/error.log info;
	events { worker_connections 64; }
	http { access_log off; $temp server { $server } }
CONF
}

sub haproxy_conf {
	my ($s) = @_;
	my $user = $s->{user} ? "user haproxy\n    group haproxy" : '';
	return <<"CONF";
global
    stats socket $s->{dir}/sock mode 600 level admin expose-fd listeners
    hard-stop-after 30s
    $user
defaults
    mode http
    timeout connect 10s
    timeout client 30s
    timeout server 30s
CONF
}

# The scripts of interpreters: an echo server that wants client certificates, and its client.
my $python_server = <<'PY';
import socket, ssl, sys, threading
port, cert, key, ca = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
context.load_verify_locations(ca)
context.verify_mode = ssl.CERT_REQUIRED
def serve(plain):
    try:
        with context.wrap_socket(plain, server_side=True) as c:
            print("from", c.getpeercert()["subject"], c.version(), flush=True)
            while data := c.recv(1000):
                c.sendall(data.upper())
    except OSError as e:
        print(e, flush=True)
listener = socket.create_server(("127.0.0.1", int(port)))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PY

my $python_client = <<'PY';
import socket, ssl, sys
port, cert, key, ca, version = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(cert, key)
context.maximum_version = ssl.TLSVersion["TLSv" + version]
for line in sys.stdin:
    with context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))), server_hostname="localhost") as c:
        c.sendall(line.encode() + b"\r\n")
        while data := c.recv(100000):
            sys.stdout.write(data.decode())
    print("done", flush=True)
PY

my $php_server = <<'PHP';
<?php
[, $port, $cert, $key, $ca] = $argv;
$ssl = ["local_cert" => $cert, "local_pk" => $key, "cafile" => $ca, "verify_peer" => true,
    "verify_peer_name" => false, "capture_peer_cert" => true];
$listener = stream_socket_server("tls://127.0.0.1:$port", $code, $text, STREAM_SERVER_BIND | STREAM_SERVER_LISTEN,
    stream_context_create(["ssl" => $ssl]));
while (true) {
    $c = @stream_socket_accept($listener, 3600);
    if ($c && ($line = fgets($c)) !== false) fwrite($c, strtoupper($line));
    if ($c) fclose($c);
}
PHP

my $php_client = <<'PHP';
<?php
[, $port, $cert, $key, $ca] = $argv;
$ssl = ["local_cert" => $cert, "local_pk" => $key, "cafile" => $ca, "verify_peer" => true,
    "peer_name" => "localhost"];
while ($line = fgets(STDIN)) {
    $c = stream_socket_client("tls://127.0.0.1:$port", $code, $text, 20, STREAM_CLIENT_CONNECT,
        stream_context_create(["ssl" => $ssl]));
    if (!$c) { fwrite(STDERR, "$text\n"); exit(1); }
    fwrite($c, $line);
    echo fgets($c);
}
PHP

my $node_server = <<'JS';
const tls = require("tls"), fs = require("fs");
const [port, cert, key, ca] = process.argv.slice(2);
const server = tls.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key), ca: fs.readFileSync(ca),
    requestCert: true, rejectUnauthorized: true }, (c) => {
    console.log("from", c.getPeerCertificate().subject.CN, c.getProtocol());
    c.on("data", (data) => c.write(data.toString().toUpperCase()));
    c.on("error", (e) => console.log(e.message));
});
server.on("tlsClientError", (e) => console.log(e.message));
server.listen(Number(port), "127.0.0.1");
JS

my $node_client = <<'JS';
const tls = require("tls"), fs = require("fs");
const [port, cert, key, ca, version] = process.argv.slice(2);
const context = tls.createSecureContext({ cert: fs.readFileSync(cert), key: fs.readFileSync(key), ca: fs.readFileSync(ca),
    maxVersion: "TLSv" + version.replace("_", ".") });
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const c = tls.connect({ port: Number(port), host: "127.0.0.1", servername: "localhost", secureContext: context },
        () => c.write(line + "\r\n\r\n"));
    c.on("data", (data) => process.stdout.write(data));
    c.on("error", (e) => console.log(e.message));
    c.on("close", () => console.log("done"));
});
JS

# A sub that runs a script with the arguments of `args`.
sub script {
	my ($program, $file, $text) = @_;
	return sub {
		my ($s) = @_;
		spew("$s->{dir}/$file", $text);
		return ($program, interpreted($file)->($s));
	};
}

sub interpreted {
	my ($file) = @_;
	return sub {
		my ($s) = @_;
		my @version = $s->{version} // ();
		return ("$s->{dir}/$file", $s->{port}, $s->{cert}, $s->{key}, $s->{ca}, @version);
	};
}

# Who speaks with s_server -www.
my @page = (say => "GET / HTTP/1.0\r\n\r\n", hear => sub { qr/server accepts that finished.*^<\/pre>/ms });
my @page_done = (say => "GET / HTTP/1.0\n", hear => sub { qr/server accepts that finished.*^done$/ms });

sub curl {
	my ($s, @more) = @_;
	return ('/usr/bin/curl', '-sS', '--max-time', 60, '--cacert', $s->{ca}, '--cert', $s->{cert}, '--key', $s->{key},
	    '--resolve', "localhost:$s->{port}:127.0.0.1", @more, "https://localhost:$s->{port}/");
}

my @table = (
	{
		name => 'nginx', package => 'nginx', program => '/usr/sbin/nginx', reload => 'HUP',
		server => sub {
			my ($s) = @_;
			return ('/usr/sbin/nginx', '-e', "$s->{dir}/error.log", '-c', nginx_conf($s, <<"CONF"));
			listen 127.0.0.1:$s->{port} ssl;
			ssl_protocols TLSv1.2 TLSv1.3;
			ssl_certificate $s->{cert};
			ssl_certificate_key $s->{key};
			ssl_client_certificate $s->{clients};
			ssl_verify_client on;
			ssl_verify_depth 3;
			return 200 "hello \$ssl_client_s_dn\n";
CONF
		},
		say => "GET / HTTP/1.0\r\n\r\n", hear => qr/^hello CN=client/m,
		client => {
			@page, to => 'www', relay => 1, goes_on => 1, run => sub {
				my ($s) = @_;
				return ('/usr/sbin/nginx', '-e', "$s->{dir}/error.log", '-c', nginx_conf($s, <<"CONF"));
				listen 127.0.0.1:$s->{port2};
				location / {
					proxy_pass https://127.0.0.1:$s->{port};
					proxy_ssl_certificate $s->{cert};
					proxy_ssl_certificate_key $s->{key};
					proxy_ssl_trusted_certificate $s->{ca};
					proxy_ssl_protocols TLSv1.2 TLSv1.3;
					proxy_ssl_verify on;
					proxy_ssl_verify_depth 3;
					proxy_ssl_name localhost;
					proxy_ssl_session_reuse off;
				}
CONF
			},
		},
	},
	{
		name => 'haproxy', package => 'haproxy', program => '/usr/sbin/haproxy', bundle => 1, reload => 'USR2',
		server => sub {
			my ($s) = @_;
			return ('/usr/sbin/haproxy', '-W', '-f', conf($s, 'haproxy.conf', haproxy_conf($s) . <<"CONF"));
			frontend https
			    bind 127.0.0.1:$s->{port} ssl crt $s->{key} ca-file $s->{clients} verify required ssl-min-ver TLSv1.2
			    http-request return status 200 content-type text/plain lf-string "hello %[ssl_c_s_dn]\\n"
CONF
		},
		say => "GET / HTTP/1.0\r\n\r\n", hear => qr{^hello /CN=client}m,
		client => {
			@page, to => 'www', relay => 1, bundle => 1, goes_on => 1, run => sub {
				my ($s) = @_;
				return ('/usr/sbin/haproxy', '-f', conf($s, 'haproxy.conf', haproxy_conf($s) . <<"CONF"));
				listen plain
				    bind 127.0.0.1:$s->{port2}
				    server s1 127.0.0.1:$s->{port} ssl crt $s->{key} ca-file $s->{ca} verify required verifyhost localhost no-ssl-reuse
CONF
			},
		},
	},
	{
		name => 'apache', package => 'apache2', program => '/usr/sbin/apache2', reload => 'USR1',
		modules => [ map { "/usr/lib/apache2/modules/mod_$_.so" } qw(ssl headers mpm_event) ],
		server => sub {
			my ($s) = @_;
			mkdir "$s->{dir}/www";
			spew("$s->{dir}/www/hello", "hello from apache\n");
			my $user = $s->{user} ? "User www-data\nGroup www-data" : '';
			my $load = join '', map { "LoadModule ${_}_module /usr/lib/apache2/modules/mod_$_.so\n" }
			    qw(mpm_event authz_core headers ssl);
			conf($s, 'apache.conf', $load . <<"CONF");
			$user
			ServerName localhost
			PidFile $s->{dir}/apache.pid
			ErrorLog $s->{dir}/apache.log
			Mutex file:$s->{dir} default
			StartServers 2
			DocumentRoot $s->{dir}/www
			Listen 127.0.0.1:$s->{port}
			SSLEngine on
			SSLProtocol -all +TLSv1.2 +TLSv1.3
			SSLCertificateFile $s->{cert}
			SSLCertificateKeyFile $s->{key}
			SSLCACertificateFile $s->{clients}
			SSLVerifyClient require
			SSLVerifyDepth 3
			Header always set X-Client "%{SSL_CLIENT_S_DN}s"
CONF
			return ('/usr/sbin/apache2', '-d', $s->{dir}, '-f', "$s->{dir}/apache.conf", '-DFOREGROUND');
		},
		say => "GET /hello HTTP/1.0\r\n\r\n", hear => qr/^X-Client: .*CN=client.*^hello from apache/ms,
		client => {
			@page, to => 'www', relay => 1, bundle => 1, goes_on => 1,
			stays => 'mod_ssl chooses it in a callback of its own', run => sub {
				my ($s) = @_;
				my $user = $s->{user} ? "User www-data\nGroup www-data" : '';
				my $load = join '', map { "LoadModule ${_}_module /usr/lib/apache2/modules/mod_$_.so\n" }
				    qw(mpm_event authz_core proxy proxy_http ssl);
				conf($s, 'apache.conf', $load . <<"CONF");
				$user
				ServerName localhost
				PidFile $s->{dir}/apache.pid
				ErrorLog $s->{dir}/apache.log
				Mutex file:$s->{dir} default
				StartServers 1
				Listen 127.0.0.1:$s->{port2}
				SSLProxyEngine on
				SSLProxyCACertificateFile $s->{ca}
				SSLProxyMachineCertificateFile $s->{key}
				SSLProxyVerify require
				SSLProxyVerifyDepth 3
				ProxyPass / https://localhost:$s->{port}/ disablereuse=on
CONF
				return ('/usr/sbin/apache2', '-d', $s->{dir}, '-f', "$s->{dir}/apache.conf", '-DFOREGROUND');
			},
		},
	},
	{
		name => 'stunnel', package => 'stunnel4', program => '/usr/bin/stunnel4', reload => 'HUP', gap => 1,
		server => sub {
			my ($s) = @_;
			my $user = $s->{user} ? "setuid = stunnel4\nsetgid = stunnel4" : '';
			return ('/usr/bin/stunnel4', conf($s, 'stunnel.conf', <<"CONF"));
			foreground = yes
			pid =
			$user
			[echo]
			accept = 127.0.0.1:$s->{port}
			exec = /bin/cat
			cert = $s->{cert}
			key = $s->{key}
			CAfile = $s->{clients}
			verifyChain = yes
CONF
		},
		say => "hello\n", hear => qr/^hello$/m,
		client => {
			@page, to => 'www', relay => 1, goes_on => 1, run => sub {
				my ($s) = @_;
				return ('/usr/bin/stunnel4', conf($s, 'stunnel-client.conf', <<"CONF"));
				foreground = yes
				pid =
				[forward]
				client = yes
				accept = 127.0.0.1:$s->{port2}
				connect = 127.0.0.1:$s->{port}
				cert = $s->{cert}
				key = $s->{key}
				CAfile = $s->{ca}
				verifyChain = yes
				checkHost = localhost
CONF
			},
		},
	},
	{
		name => 'postgres', package => 'postgresql', program => "$postgres_bin/postgres",
		account => 'postgres', private => 1, no_asan => 1, reload => 'HUP', starttls => 'postgres',
		ready => qr/ready to accept connections/,
		server => sub {
			my ($s) = @_;
			my $bin = $postgres_bin;
			my $data = "$s->{dir}/data";
			my $r = run(@{ $s->{as} }, "$bin/initdb", qw(-A trust -U postgres --no-sync -D), $data);
			die "initdb: $r->{err}" if $r->{status} != 0;
			conf($s, 'data/pg_hba.conf', "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n");
			conf($s, 'data/postgresql.auto.conf', <<"CONF");
			listen_addresses = '127.0.0.1'
			port = $s->{port}
			unix_socket_directories = ''
			fsync = off
			shared_buffers = 1MB
			ssl = on
			ssl_cert_file = '$s->{cert}'
			ssl_key_file = '$s->{key}'
			ssl_ca_file = '$s->{clients}'
CONF
			return ("$bin/postgres", '-D', $data);
		},
		# A startup packet; an error or a question for the password are an answer too.
		say => pack('N N Z* Z* Z* Z* x', 41, 196608, 'user', 'postgres', 'database', 'postgres'),
		hear => qr/server_version/,
		client => {
			program => "$postgres_bin/psql", account => 'postgres', private => 1, run => sub {
				my ($s) = @_;
				my $max = 'TLSv' . $dotted{ $s->{version} };
				return ("$postgres_bin/psql", '-At',
				    "host=localhost hostaddr=127.0.0.1 port=$s->{port} user=postgres sslmode=verify-full " .
				    "sslrootcert=$s->{ca} sslcert=$s->{cert} sslkey=$s->{key} ssl_max_protocol_version=$max");
			},
			say => "select version, client_dn from pg_stat_ssl where pid = pg_backend_pid();\n",
			hear => sub { qr/^TLSv\Q$dotted{$_[0]{version}}\E\|.*$_[0]{subject}/m },
		},
	},
	{
		name => 'mosquitto', package => 'mosquitto', program => '/usr/sbin/mosquitto', account => 'mosquitto',
		reload => 'HUP',
		server => sub {
			my ($s) = @_;
			return ('/usr/sbin/mosquitto', '-c', conf($s, 'mosquitto.conf', <<"CONF"));
			listener $s->{port} 127.0.0.1
			certfile $s->{cert}
			keyfile $s->{key}
			cafile $s->{clients}
			require_certificate true
			use_subject_as_username true
CONF
		},
		say => "\x10\x0c\0\4MQTT\4\2\0\x3c\0\0", hear => qr/\x20\x02\0\0/,
		client => {
			program => '/usr/bin/mosquitto_rr', run => sub {
				my ($s) = @_;
				return (qw(/usr/bin/mosquitto_rr -h localhost -V mqttv5 -t t -e t -m hello -W 10 -p), $s->{port},
				    '--cafile', $s->{ca}, '--cert', $s->{cert}, '--key', $s->{key}, '--tls-version',
				    'tlsv' . $dotted{ $s->{version} });
			},
			hear => sub { qr/^hello$/m }, seen => sub { qr/u'.*$_[0]{subject}/ },
			linger => [ sub {
				my ($s) = @_;
				return (qw(/usr/bin/mosquitto_rr -h localhost -V mqttv5 -i waits -t t -e never -m hello -W 60 -p), $s->{port},
				    '--cafile', $s->{ca}, '--cert', $s->{cert}, '--key', $s->{key});
			}, qr/ as waits / ],
		},
	},
	{
		name => 'python', package => 'python3', program => '/usr/bin/python3', args => interpreted('server.py'),
		server => script('/usr/bin/python3', 'server.py', $python_server),
		say => "hello\n", hear => qr/^HELLO$/m,
		client => {
			@page_done, to => 'www', goes_on => 1,
			args => interpreted('client.py'), run => script('/usr/bin/python3', 'client.py', $python_client),
		},
	},
	{
		name => 'socat', package => 'socat', program => '/usr/bin/socat',
		server => sub {
			my ($s) = @_;
			return ('/usr/bin/socat', "OPENSSL-LISTEN:$s->{port},bind=127.0.0.1,reuseaddr,fork," .
			    "cert=$s->{cert},key=$s->{key},cafile=$s->{clients},verify=1", 'PIPE');
		},
		say => "hello\n", hear => qr/^hello$/m,
		client => {
			to => 'rev', hear => sub { qr/olleh/ }, run => sub {
				my ($s) = @_;
				return ('/usr/bin/socat', '-t10', '-', "OPENSSL:localhost:$s->{port}," .
				    "cert=$s->{cert},key=$s->{key},cafile=$s->{ca},verify=1");
			},
		},
	},
	{
		name => 'curl', package => 'curl', no_asan => 1, program => '/usr/bin/curl',
		client => {
			to => 'www', hear => sub { qr/<\/pre>/ }, run => sub { return curl($_[0]) },
			linger => [ sub { return curl($_[0], '-T', '-') }, qr/(?:^verify return:1.*){4}/ms ], # of the second connection
		},
	},
	{
		name => 'lighttpd', package => 'lighttpd-mod-openssl', program => '/usr/sbin/lighttpd', reload => 'USR1',
		modules => ['/usr/lib/lighttpd/mod_openssl.so'],
		gap => 1, stays => 'it sets a certificate callback of its own; it reads its files again on SIGUSR1',
		server => sub {
			my ($s) = @_;
			mkdir "$s->{dir}/www";
			spew("$s->{dir}/www/hello.txt", "hello from lighttpd\n");
			my $user = $s->{user} ? qq(server.username = "www-data"\nserver.groupname = "www-data") : '';
			return ('/usr/sbin/lighttpd', '-D', '-f', conf($s, 'lighttpd.conf', <<"CONF"));
			server.modules = ( "mod_openssl" )
			server.document-root = "$s->{dir}/www"
			server.bind = "127.0.0.1"
			server.port = $s->{port}
			$user
			ssl.engine = "enable"
			ssl.pemfile = "$s->{cert}"
			ssl.privkey = "$s->{key}"
			ssl.verifyclient.activate = "enable"
			ssl.verifyclient.enforce = "enable"
			ssl.verifyclient.ca-file = "$s->{clients}"
			ssl.openssl.ssl-conf-cmd = ( "MinProtocol" => "TLSv1.2" )
CONF
		},
		say => "GET /hello.txt HTTP/1.0\r\n\r\n", hear => qr/^hello from lighttpd/m,
	},
	{
		name => 'redis', package => 'redis-server', program => '/usr/bin/redis-server', account => 'redis',
		reload => sub {
			my ($s, $connect) = @_;
			return talk("CONFIG SET tls-cert-file $s->{cert} tls-key-file $s->{key}\r\n", qr/^[+-]\w+/m, @$connect);
		},
		server => sub {
			my ($s) = @_;
			return ('/usr/bin/redis-server', conf($s, 'redis.conf', <<"CONF"));
			bind 127.0.0.1
			port 0
			tls-port $s->{port}
			tls-cert-file $s->{cert}
			tls-key-file $s->{key}
			tls-ca-cert-file $s->{clients}
			tls-auth-clients yes
			@{[ $s->{only} ? 'tls-protocols "TLSv1.2"' : '' ]}
			save ""
			dir $s->{dir}
CONF
		},
		say => "PING\r\n", hear => qr/^\+PONG/m,
		client => {
			program => '/usr/bin/redis-cli', run => sub {
				my ($s) = @_;
				return (qw(/usr/bin/redis-cli --tls -h 127.0.0.1 -p), $s->{port}, '--sni', 'localhost',
				    '--cacert', $s->{ca}, '--cert', $s->{cert}, '--key', $s->{key});
			},
			say => "ECHO hello\n", hear => sub { qr/^hello$/m }, one_version => 1,
		},
	},
	{
		name => 'php', package => 'php-cli', no_asan => 1, rereads => 1, program => $php, heavy => 'a package of its own',
		args => interpreted('server.php'), server => script($php, 'server.php', $php_server),
		say => "hello\n", hear => qr/^HELLO$/m,
		client => {
			to => 'rev', hear => sub { qr/olleh/ }, args => interpreted('client.php'),
			run => script($php, 'client.php', $php_client),
		},
	},
	{
		name => 'node', package => 'nodejs', program => '/usr/bin/node', heavy => 'a package of its own', no_asan => 1,
		args => interpreted('server.js'), server => script('/usr/bin/node', 'server.js', $node_server),
		say => "hello\n", hear => qr/^HELLO$/m, stays => 'it sets a certificate callback of its own',
		client => {
			@page_done, to => 'www', goes_on => 1, stays => 'it sets a certificate callback of its own',
			args => interpreted('client.js'), run => script('/usr/bin/node', 'client.js', $node_client),
		},
	},
	{
		name => 'unbound', package => 'unbound', program => '/usr/sbin/unbound', heavy => 'a package of its own',
		server => sub {
			my ($s) = @_;
			return ('/usr/sbin/unbound', '-d', '-c', conf($s, 'unbound.conf', <<"CONF"));
			server:
			    interface: 127.0.0.1\@$s->{port}
			    tls-port: $s->{port}
			    tls-service-pem: "$s->{cert}"
			    tls-service-key: "$s->{key}"
			    directory: "$s->{dir}"
			    chroot: ""
			    username: "@{[ $s->{user} ? 'unbound' : '' ]}"
			    pidfile: ""
			    use-syslog: no
			    access-control: 127.0.0.0/8 allow
			    local-data: "hello.test. TXT hello"
CONF
		},
		# The length, a header that asks one question, hello.test. TXT IN.
		say => "\0\x1c\0\1\1\0\0\1\0\0\0\0\0\0\5hello\4test\0\0\x10\0\1", hear => qr{\x05hello\x04test\x00.*\x05hello}s,
		reload => 'HUP', gap => 1, # it cuts connections
	},
	{
		name => 'bind', package => 'bind9', program => '/usr/sbin/named', owner => 'bind', heavy => 'a package of its own',
		server => sub {
			my ($s) = @_;
			conf($s, 'hello.zone', "\@ 60 IN SOA localhost. root 1 1 1 1 1\n\@ 60 IN NS localhost.\n\@ 60 IN TXT hello\n");
			return ('/usr/sbin/named', '-g', ($s->{user} ? ('-u', 'bind') : ()), '-c', conf($s, 'named.conf', <<"CONF"));
			tls dot { cert-file "$s->{cert}"; key-file "$s->{key}"; ca-file "$s->{clients}";
			    protocols { TLSv1.2; @{[ $s->{only} ? '' : 'TLSv1.3;' ]} }; };
			controls { };
			options {
			    directory "$s->{dir}";
			    pid-file none; session-keyfile none; managed-keys-directory "$s->{dir}";
			    recursion no; dnssec-validation no;
			    listen-on port $s->{port} tls dot { 127.0.0.1; };
			    listen-on-v6 { none; };
			};
			zone "hello.test" { type primary; file "$s->{dir}/hello.zone"; };
CONF
		},
		say => "\0\x1c\0\1\1\0\0\1\0\0\0\0\0\0\5hello\4test\0\0\x10\0\1", hear => qr{\x05hello\x04test\x00.*\x05hello}s,
		reload => 'HUP',
		client => {
			program => '/usr/bin/dig', run => sub {
				my ($s) = @_;
				return (qw(/usr/bin/dig +noall +answer +tls @127.0.0.1 -p), $s->{port}, "+tls-ca=$s->{ca}", '+tls-hostname=localhost',
				    "+tls-certfile=$s->{cert}", "+tls-keyfile=$s->{key}", qw(-f -));
			},
			say => "hello.test TXT\n", hear => sub { qr/"hello"/ }, one_version => 1,
		},
	},
	{
		name => 'rsyslog', package => 'rsyslog-openssl', program => '/usr/sbin/rsyslogd', heavy => 'a package of its own',
		modules => [ glob('/usr/lib/*/rsyslog/lmnsd_ossl.so') || '/usr/lib/rsyslog/lmnsd_ossl.so' ],
		server => sub {
			my ($s) = @_;
			# Threads of 8.2504 close connections of others, whatever the key is (rsyslog's pull request 5806).
			my $one = run('/usr/sbin/rsyslogd', '-v')->{out} =~ /^rsyslogd +8\.(\d+)/ && $1 >= 2504 ? 'workerthreads="1"' : '';
			return ('/usr/sbin/rsyslogd', '-n', '-i', "$s->{dir}/pid", '-f', conf($s, 'rsyslog.conf', <<"CONF"));
			global(DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="$s->{clients}"
			    DefaultNetstreamDriverCertFile="$s->{cert}" DefaultNetstreamDriverKeyFile="$s->{key}")
			module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid" $one)
			input(type="imtcp" address="127.0.0.1" port="$s->{port}")
			*.* action(type="omfile" file="$s->{dir}/messages")
CONF
		},
		say => "<13>Nov 23 00:00:00 host test: hello from a client\n", hear => qr/^Verified peername/m, # it has no answers
		writes => [ 'messages', qr/hello from a client/ ],
		client => {
			to => 'print', relay => 1, say => "<13>Nov 23 00:00:00 host test: hello from a client\n", run => sub {
				my ($s) = @_;
				return ('/usr/sbin/rsyslogd', '-n', '-i', "$s->{dir}/pid", '-f', conf($s, 'rsyslog.conf', <<"CONF"));
				global(DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="$s->{ca}"
				    DefaultNetstreamDriverCertFile="$s->{cert}" DefaultNetstreamDriverKeyFile="$s->{key}")
				module(load="imtcp")
				input(type="imtcp" address="127.0.0.1" port="$s->{port2}" StreamDriver.Name="ptcp")
				*.* action(type="omfwd" protocol="tcp" target="127.0.0.1" port="$s->{port}" StreamDriver="ossl" StreamDriverMode="1"
				    StreamDriverAuthMode="x509/name" StreamDriverPermittedPeers="localhost")
CONF
			},
			hear => sub { qr/hello from a client/ },
		},
	},
	{
		name => 'mariadb', package => 'mariadb-server', program => '/usr/sbin/mariadbd', account => 'mysql',
		heavy => 'takes long to make its tables', starttls => 'mysql',
		reload => sub {
			my ($s) = @_;
			my $r = run('mariadb', '--no-defaults', "--socket=$s->{dir}/sock", qw(--skip-ssl -u root -e), 'flush ssl');
			return $r->{status} == 0 ? 'OK' : $r->{err};
		},
		server => sub {
			my ($s) = @_;
			my $r = run(@{ $s->{as} }, 'mariadb-install-db', '--no-defaults', "--datadir=$s->{dir}/data", '--skip-test-db',
				'--auth-root-authentication-method=normal', { timeout => 120 });
			die "mariadb-install-db: $r->{out}$r->{err}" if $r->{status} != 0;
			return ('/usr/sbin/mariadbd', '--no-defaults', "--datadir=$s->{dir}/data", "--socket=$s->{dir}/sock",
			    '--bind-address=127.0.0.1', "--port=$s->{port}", "--ssl-cert=$s->{cert}", "--ssl-key=$s->{key}",
			    "--ssl-ca=$s->{clients}", "--pid-file=$s->{dir}/pid", '--innodb-buffer-pool-size=8M',
			    '--innodb-buffer-pool-size-max=64M');
		},
		# A login that ends too early.
		say => pack('C x2 C V V C x23', 32, 2, 0x8a00, 1 << 24, 33), hear => qr/#08S01Bad handshake/,
	},
);

sub applications { return @table }

1;
