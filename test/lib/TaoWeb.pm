package TaoWeb;

# Web servers, proxies and tunnels for Tao channels, as an administrator configures them.
#
#   servers()  name => { program, package, modules, bundle, command => SUB, as => SUB }
#   relays()   the same, as clients: each listens on a port without TLS for each thing it connects to
#
# `command` gets a hash and returns the command line:
#
# `checks`: it is in the log only if the relay verifies.
#
#   dir, program   scratch, and what runs: the package's file or a copy
#   cert, key      files; bundle: both in one
#   ca             whom it trusts; user: '' unless root
#   asks, open     servers: a port where clients have to show a certificate, and one where they are not asked
#   twelve         servers: they allow TLS 1.2 at most
#   other          a virtual host of the latter, which wants certificates of the authority `else` alone
#   trusting       relays: they verify nothing
#   to             relays: a list of { host, port, local, check }: a name, a port of 127.0.0.1, and the port without TLS;
#                  and whether it looks by itself if the server is there (HAProxy)
#
# Servers answer a request of HTTP with what they know of the connection, as lines or headers: `dn=` the
# client's name, `reused=` a session was, `curve=` the group. Relays add what they know of the server as a
# header `X-Server`, or in their log: `sees` is a pattern for that; without it, they know nothing.

use strict;
use warnings;

use Exporter 'import';
use TaoTest;

our @EXPORT = qw(servers relays);

sub conf {
	my ($s, $name, $text) = @_;
	return spew("$s->{dir}/$name", $text =~ s/^\t+//mgr);
}

# --- nginx

sub nginx {
	my ($s, $servers) = @_;
	my $user = $s->{user} ? 'user www-data;' : '';
	my $temp = join ' ', map { "${_}_temp_path $s->{dir}/$_;" } qw(client_body proxy fastcgi uwsgi scgi);
	return ($s->{program}, '-e', "$s->{dir}/error.log", '-c', conf($s, 'nginx.conf', <<"CONF"));
	daemon off; $user worker_processes 2; pid $s->{dir}/pid; error_log $s->{dir}/error.log info;
	events { worker_connections 64; }
	http { access_log off; $temp
	$servers
	}
CONF
}

sub nginx_server {
	my ($s) = @_;
	my $common = <<"CONF";
	ssl_protocols TLSv1.2@{[ $s->{twelve} ? '' : ' TLSv1.3' ]};
	ssl_certificate $s->{cert};
	ssl_certificate_key $s->{key};
	location / {
		return 200 "dn=\$ssl_client_s_dn\\nreused=\$ssl_session_reused\\ncurve=\$ssl_curve\\nverify=\$ssl_client_verify\\n";
	}
CONF
	return nginx($s, <<"CONF");
	server {
		listen 127.0.0.1:$s->{asks} ssl;
		ssl_client_certificate $s->{ca};
		ssl_verify_client on;
		ssl_verify_depth 3;
		$common
	}
	server {
		listen 127.0.0.1:$s->{open} ssl default_server;
		$common
	}
	server {
		listen 127.0.0.1:$s->{open} ssl;
		server_name $s->{other};
		ssl_client_certificate $s->{else};
		ssl_verify_client on;
		$common
	}
CONF
}

# By default it asks for no name and verifies nothing.
sub nginx_relay {
	my ($s) = @_;
	my $verify = $s->{trusting} ? '' : <<"CONF";
			proxy_ssl_verify on;
			proxy_ssl_verify_depth 3;
			proxy_ssl_trusted_certificate $s->{ca};
CONF
	return nginx($s, join '', map { <<"CONF" } @{ $s->{to} });
	server {
		listen 127.0.0.1:$_->{local};
		location / {
			proxy_pass https://127.0.0.1:$_->{port};
			proxy_ssl_server_name on;
			proxy_ssl_name $_->{host};
			proxy_ssl_protocols TLSv1.2 TLSv1.3;
			$verify
		}
	}
CONF
}

# --- HAProxy

sub haproxy {
	my ($s, $sections) = @_;
	my $user = '';
	if ($s->{user}) {
		mkdir "$s->{dir}/empty";
		$user = "user haproxy\n    group haproxy\n    chroot $s->{dir}/empty";
	}
	return ($s->{program}, '-W', '-f', conf($s, 'haproxy.conf', <<"CONF" . $sections));
global
    log stdout format raw local0
    hard-stop-after 10s
    $user
defaults
    mode http
    log global
    option httplog
    retries 0
    timeout connect 10s
    timeout client 30s
    timeout server 30s
CONF
}

sub haproxy_server {
	my ($s) = @_;
	my $most = $s->{twelve} ? 'ssl-max-ver TLSv1.2' : '';
	my $list = conf($s, 'list', "$s->{bundle} [verify none] !$s->{other}\n$s->{bundle} [ca-file $s->{else} verify required] $s->{other}\n");
	return haproxy($s, <<"CONF");
frontend https
    bind 127.0.0.1:$s->{asks} ssl crt $s->{bundle} ca-file $s->{ca} verify required $most
    bind 127.0.0.1:$s->{open} ssl crt-list $list $most
    http-request return status 200 content-type text/plain lf-string "dn=%[ssl_c_s_dn]\\nreused=%[ssl_fc_is_resumed]\\nverify=%[ssl_c_verify]\\n"
CONF
}

sub haproxy_relay {
	my ($s) = @_;
	return haproxy($s, join '', map { my $verify = $s->{trusting} ? 'verify none' : "verify required verifyhost $_->{host} ca-file $s->{ca}"; <<"CONF" } @{ $s->{to} });
listen to-$_->{local}
    bind 127.0.0.1:$_->{local}
    option httpclose
    option log-health-checks
    http-response set-header X-Server %[ssl_s_s_dn]
    server s1 127.0.0.1:$_->{port} ssl sni str($_->{host}) $verify @{[ $_->{check} ? "check check-sni $_->{host}" : '' ]}
CONF
}

# --- Apache httpd

sub apache {
	my ($s, $modules, $rest) = @_;
	my $user = $s->{user} ? "User www-data\nGroup www-data" : '';
	my $load = join '', map { "LoadModule ${_}_module /usr/lib/apache2/modules/mod_$_.so\n" } qw(mpm_event authz_core headers ssl), @$modules;
	mkdir "$s->{dir}/www";
	spew("$s->{dir}/www/$_.html", "hello from apache\n") for qw(index private);
	conf($s, 'apache.conf', $load . <<"CONF" . $rest);
	$user
	ServerName localhost
	PidFile $s->{dir}/apache.pid
	ErrorLog $s->{dir}/error.log
	LogLevel info ssl:debug
	Mutex file:$s->{dir} default
	StartServers 1
	DocumentRoot $s->{dir}/www
CONF
	return ($s->{program}, '-d', $s->{dir}, '-f', "$s->{dir}/apache.conf", '-DFOREGROUND');
}

sub apache_server {
	my ($s) = @_;
	my $common = <<"CONF";
	SSLEngine on
	SSLProtocol -all +TLSv1.2@{[ $s->{twelve} ? '' : ' +TLSv1.3' ]}
	SSLCertificateFile $s->{cert}
	SSLCertificateKeyFile $s->{key}
	Header always set X-Dn "dn=%{SSL_CLIENT_S_DN}s"
	Header always set X-Reused "reused=%{SSL_SESSION_RESUMED}s"
	Header always set X-Verify "verify=%{SSL_CLIENT_VERIFY}s"
CONF
	return apache($s, [], <<"CONF");
	Listen 127.0.0.1:$s->{asks}
	Listen 127.0.0.1:$s->{open}
	<VirtualHost 127.0.0.1:$s->{asks}>
	$common
	SSLCACertificateFile $s->{ca}
	SSLVerifyClient require
	SSLVerifyDepth 3
	</VirtualHost>
	<VirtualHost 127.0.0.1:$s->{open}>
	$common
	SSLCACertificateFile $s->{ca}
	SSLVerifyDepth 3
	<Location /private.html>
	SSLVerifyClient require
	</Location>
	</VirtualHost>
	<VirtualHost 127.0.0.1:$s->{open}>
	ServerName $s->{other}
	$common
	SSLCACertificateFile $s->{else}
	SSLVerifyClient require
	</VirtualHost>
CONF
}

sub apache_relay {
	my ($s) = @_;
	my $verify = $s->{trusting} ? "SSLProxyVerify none\n\tSSLProxyCheckPeerName off\n\tSSLProxyCheckPeerExpire off" : <<"CONF";
	SSLProxyCACertificateFile $s->{ca}
	SSLProxyVerify require
	SSLProxyVerifyDepth 3
	SSLProxyCheckPeerName on
CONF
	return apache($s, [qw(proxy proxy_http)], join '', map { <<"CONF" } @{ $s->{to} });
	Listen 127.0.0.1:$_->{local}
	<VirtualHost 127.0.0.1:$_->{local}>
	SSLProxyEngine on
	SSLProxyProtocol -all +TLSv1.2 +TLSv1.3
	$verify
	@{[ $_->{host} eq 'localhost' ? '' : 'ProxyPreserveHost On' ]}
	ProxyPass / https://@{[ $_->{host} eq 'localhost' ? 'localhost' : '127.0.0.1' ]}:$_->{port}/ disablereuse=On
	</VirtualHost>
CONF
}

# --- stunnel

sub stunnel {
	my ($s, $services) = @_;
	my $user = $s->{user} ? "setuid = stunnel4\nsetgid = stunnel4" : '';
	return ($s->{program}, conf($s, 'stunnel.conf', <<"CONF" . $services));
	foreground = yes
	pid =
	debug = info
	$user
CONF
}

# What answers: stunnel tells it the client's name.
my $page = <<'SH';
#!/bin/sh
cr=$(printf '\r')
while read -r line && [ -n "${line%"$cr"}" ]; do :; done
printf 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\ndn=%s\n' "$SSL_CLIENT_DN"
SH

sub stunnel_server {
	my ($s) = @_;
	chmod 0755, spew("$s->{dir}/page", $page);
	my $common = "cert = $s->{cert}\n\tkey = $s->{key}\n\texec = $s->{dir}/page\n" . ($s->{twelve} ? "\tsslVersionMax = TLSv1.2\n" : '');
	return stunnel($s, <<"CONF");
	[asks]
	accept = 127.0.0.1:$s->{asks}
	$common
	CAfile = $s->{ca}
	verifyChain = yes
	[open]
	accept = 127.0.0.1:$s->{open}
	$common
	[other]
	sni = open:$s->{other}
	$common
	CAfile = $s->{else}
	verifyChain = yes
CONF
}

sub stunnel_relay {
	my ($s) = @_;
	return stunnel($s, join '', map { my $verify = $s->{trusting} ? '' : "CAfile = $s->{ca}\n\tverifyChain = yes\n\tcheckHost = $_->{host}"; <<"CONF" } @{ $s->{to} });
	[to-$_->{local}]
	client = yes
	accept = 127.0.0.1:$_->{local}
	connect = 127.0.0.1:$_->{port}
	sni = $_->{host}
	$verify
CONF
}

# --- the tables

my %program = (
	nginx => { program => '/usr/sbin/nginx' },
	haproxy => { program => '/usr/sbin/haproxy', bundle => 1 },
	apache => { program => '/usr/sbin/apache2', package => 'apache2' },
	stunnel => { program => '/usr/bin/stunnel4', package => 'stunnel4' },
);

sub table {
	my (%command) = @_;
	return map { $_ => { name => $_, package => $_, %{ $program{$_} }, command => $command{$_} } } keys %command;
}

sub servers {
	return table(nginx => \&nginx_server, haproxy => \&haproxy_server, apache => \&apache_server, stunnel => \&stunnel_server);
}

sub relays {
	my %t = table(nginx => \&nginx_relay, haproxy => \&haproxy_relay, apache => \&apache_relay, stunnel => \&stunnel_relay);
	$t{haproxy}{sees} = qr/^x-server: (.*)$/mi;
	$t{apache}{sees} = qr/Certificate Verification, depth 0,(.*)/;
	$t{stunnel}{sees} = qr/Certificate accepted at depth=0:(.*)/;
	$t{$_}{checks} = 1 for qw(apache stunnel); # what is in their logs, they write when they verify
	return %t;
}

1;
