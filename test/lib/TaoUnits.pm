package TaoUnits;

# Services as man/tao-applications.7 says to configure them: what the page prints is put into a
# machine's directories, word for word. For recipes that have such directories to themselves.
#
#   texts(HEADING)       the literal texts below a heading, as they are shown
#   text(HEADING, QR)    the one among them that matches
#   beginning()          the lines with which every drop-in begins
#   common()             the steps that are the same for all
#   drop_in(SERVICE)     the whole drop-in of a service
#   place(TAO, STATE)    from now on, texts that are used have this command for /usr/bin/tao and this
#                        directory for /var/lib/tao
#   here(TEXT)           the text with these
#   services()           the services of the page: {name: the heading, unit: Debian's, instance: of a
#                        template}; those with `configure` also have {port, server: the name that it
#                        serves, if not www.example.org, args: of s_client}
#   as_told(WHAT, TEXT)  tests: the lines of a text that have a prompt, as root's shell does them
#   configure(SERVICE, DIR)  has it configured, with logs in DIR: undef, or the reason why it is not
#   $UNITS               where Debian's units are

use strict;
use warnings;

use Exporter 'import';
use TaoTest;
use Test::More ();

our @EXPORT = qw(texts text beginning common drop_in place here services configure as_told $UNITS);
our $UNITS = '/lib/systemd/system';

my $page = slurp(srctop() . '/man/tao-applications.7');
my ($tao, $state) = ('/usr/bin/tao', '/var/lib/tao');

sub texts {
	my ($heading) = @_;
	my ($part) = $page =~ /^\.Ss \Q$heading\E\n(.*?)(?=^\.S[sh] )/ms or return;
	return map { s/\\e/\\/gr } $part =~ /^\.Bd -literal.*?\n(.*?)^\.Ed$/msg;
}

sub text { my ($heading, $like) = @_; my ($text) = grep { /$like/m } texts($heading); return $text // '' }
sub beginning { return ($page =~ /^Every drop-in begins with the lines\n\.Bd.*?\n(.*?)^\.Ed$/ms)[0] // '' }
sub common { return ($page =~ /^The steps that are the same for all:\n\.Bd.*?\n(.*?)^\.Ed$/ms)[0] // '' }
sub place { ($tao, $state) = @_ }
sub here { return $_[0] =~ s{/usr/bin/tao\b}{$tao}gr =~ s{/var/lib/tao\b}{$state}gr }

sub drop_in {
	my ($s) = @_;
	my $text = beginning() . text($s->{heading} // $s->{name}, $s->{drop_in} // '^ExecStart=$');
	return $s->{adapt} ? $s->{adapt}->($text) : $text;
}

# Empty directories, in memory.
sub fresh { for my $at (@_) { run(qw(mount -t tmpfs -o mode=755 none), $at) if -d $at } }

sub as_told {
	my ($what, $text) = @_;
	for my $line (map { /^# (.*)/s } split /\n(?=# )/, here($text =~ s/\\\n\s*//gr =~ s{^# tao\b}{# /usr/bin/tao}mgr =~ s{ tao (run|key|trust)}{ /usr/bin/tao $1}gr)) {
		ok_run([ 'sh', '-c', $line ], "$what: # " . substr $line, 0, 60);
	}
}

sub key_and_name {
	my ($what, $name, $program, @user) = @_;
	as_told($what, "# tao key new $name --for $program @user\n# tao trust $program --serves www.example.org @user\n");
}

sub uid { return scalar getpwnam $_[0] }

# --- one after the other: what the page leaves to the administrator is here

sub nginx {
	my ($dir) = @_;
	as_told('nginx', common() =~ s/^# (?:install|systemctl).*\n//mgr);
	fresh('/etc/nginx');
	spew('/etc/nginx/nginx.conf', "user www-data;\npid /run/nginx.pid;\nerror_log $dir/nginx.log;\nevents { }\nhttp { access_log off; ssl_protocols TLSv1.2 TLSv1.3; server { listen 443 ssl;\n" .
		here(text('nginx', '^ssl_certificate ')) . 'return 200 $uri; } }');
}

sub haproxy {
	as_told('HAProxy', common() =~ s/^# (?:install|systemctl|tao run).*\n//mgr =~ s{/usr/sbin/nginx}{/usr/sbin/haproxy}gr =~ s/new web/new lb/r);
	fresh('/etc/haproxy');
	spew('/etc/haproxy/haproxy.cfg', "global\n user haproxy\n group haproxy\ndefaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nfrontend f\n" .
		(here(text('HAProxy', '^bind')) =~ /^(bind.*\n)/)[0] . " http-request return status 200\n");
}

sub mosquitto {
	key_and_name(qw(Mosquitto mqtt /usr/sbin/mosquitto --user mosquitto));
	fresh(qw(/etc/mosquitto /var/log));
	my $uid = uid('mosquitto');
	spew('/etc/mosquitto/mosquitto.conf', "listener 8883\n" . here(text('Mosquitto', '^certfile')) =~ s{/107/}{/$uid/}gr);
}

my ($pg_bin) = reverse sort glob '/usr/lib/postgresql/*/bin';
my $pg = ($pg_bin // '') =~ m{/(\d+)/bin} ? $1 : 15;
sub of_postgres { my $uid = uid('postgres') // 101; return $_[0] =~ s{postgresql/15/}{postgresql/$pg/}gr =~ s{/101/}{/$uid/}gr }

sub postgresql {
	my $uid = uid('postgres');
	fresh(qw(/etc/postgresql /var/lib/postgresql /var/log));
	mkdir $_ for '/run/postgresql', "/etc/postgresql/$pg", "/etc/postgresql/$pg/main";
	chown $uid, -1, '/var/lib/postgresql', '/run/postgresql';
	ok_run([ qw(setpriv --reuid=postgres --regid=postgres --init-groups), "$pg_bin/initdb", qw(-A peer --no-sync -D), "/var/lib/postgresql/$pg/main" ], 'PostgreSQL: a cluster');
	as_told('PostgreSQL', of_postgres(text('PostgreSQL', '^# tao key new')));
	spew("/etc/postgresql/$pg/main/postgresql.conf", "data_directory = '/var/lib/postgresql/$pg/main'\nexternal_pid_file = '/run/postgresql/$pg-main.pid'\nunix_socket_directories = '/run/postgresql'\n" .
		here(of_postgres(text('PostgreSQL', '^ssl = on'))));
}

sub postfix {
	my ($dir) = @_;
	as_told('Postfix', text('Postfix', '^# tao key new'));
	my @of = map { -e "/etc/postfix/$_" ? ($_, slurp("/etc/postfix/$_")) : () } qw(dynamicmaps.cf postfix-files postfix-script post-install master.cf.proto);
	fresh(qw(/etc/postfix /var/spool/postfix /var/lib/postfix));
	while (my ($file, $text) = splice @of, 0, 2) {
		spew("/etc/postfix/$file", $text);
		chmod 0755, "/etc/postfix/$file" if $file =~ /script|install/;
	}
	mkdir $_ for '/etc/postfix/dynamicmaps.cf.d', '/etc/postfix/postfix-files.d';
	spew('/etc/postfix/master.cf', slurp('/etc/postfix/master.cf.proto'));
	spew('/etc/postfix/main.cf', "compatibility_level = 3.6\nmyhostname = mail.example.org\nmydestination =\ninet_interfaces = all\ninet_protocols = ipv4\n" .
		"smtpd_tls_security_level = may\nmaillog_file = $dir/postfix.log\nmaillog_file_prefixes = $dir\n" . here(text('Postfix', '^smtpd_tls_cert_file')));
	chown uid('postfix'), -1, '/var/lib/postfix';
}

sub apache {
	key_and_name('Apache httpd', qw(apache /usr/sbin/apache2));
	my @of = map { ($_, slurp("/etc/apache2/$_")) } qw(apache2.conf envvars);
	fresh(qw(/etc/apache2 /var/log));
	mkdir $_ for '/var/log/apache2', map { "/etc/apache2/$_-enabled" } qw(mods conf sites);
	while (my ($file, $text) = splice @of, 0, 2) { spew("/etc/apache2/$file", $text) }
	spew('/etc/apache2/ports.conf', "Listen 443\n");
	spew('/etc/apache2/mods-enabled/all.load', join '', map { "LoadModule ${_}_module /usr/lib/apache2/modules/mod_$_.so\n" } qw(mpm_event authz_core socache_shmcb ssl));
	spew('/etc/apache2/sites-enabled/tls.conf', "ServerName www.example.org\nSSLEngine on\n" . here(text('Apache httpd', '^SSLCertificateFile')) =~ s{/web\.pem}{/apache.pem}gr);
}

sub stunnel {
	key_and_name(qw(stunnel tunnel /usr/bin/stunnel4));
	fresh('/etc/stunnel');
	spew('/etc/stunnel/x.conf', "foreground = yes\n[x]\naccept = 443\nexec = /bin/cat\n" . here(text('stunnel', '^cert = ')) =~ s{/web\.pem}{/tunnel.pem}gr);
}

sub lighttpd {
	key_and_name(qw(lighttpd light /usr/sbin/lighttpd));
	fresh('/etc/lighttpd');
	spew('/etc/lighttpd/lighttpd.conf', qq(server.modules = ( "mod_openssl" )\nserver.document-root = "/var/www"\nserver.port = 443\nssl.engine = "enable"\nssl.openssl.ssl-conf-cmd = ( "MinProtocol" => "TLSv1.2" )\n) .
		here(text('lighttpd', '^ssl.pemfile')) =~ s{/web\.pem}{/light.pem}gr);
}

sub redis {
	key_and_name(qw(Redis redis /usr/bin/redis-server --user redis));
	fresh('/etc/redis');
	my $uid = uid('redis');
	spew('/etc/redis/redis.conf', "port 0\ntls-auth-clients no\nsave \"\"\n" . here(text('Redis', '^tls-port')) =~ s{/106/}{/$uid/}gr);
}

sub dovecot {
	my ($dir) = @_;
	my $uid = uid('dovenull');
	as_told('Dovecot', text('Dovecot', '^# tao key new imap'));
	my ($version) = run(qw(/usr/sbin/dovecot --version))->{out} =~ /^(\d+\.\d+)/;
	my $new = $version >= 2.4;
	fresh('/etc/dovecot');
	spew('/etc/dovecot/dovecot.conf', ($new ? "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n" : '') . "protocols = imap\nssl = required\nlog_path = $dir/dovecot.log\n" .
		here(text('Dovecot', $new ? '^ssl_server_cert_file' : '^ssl_cert')) =~ s{/UID/}{/$uid/}gr);
}

my $dns = 'BIND and Unbound: DNS over TLS';

sub bind {
	key_and_name(qw(BIND dns /usr/sbin/named));
	fresh(qw(/etc/bind /var/cache/bind));
	chown uid('bind'), -1, '/var/cache/bind';
	my $conf = here(text($dns, '^tls dot')) =~ s/listen-on port 853/directory "\/var\/cache\/bind"; recursion no; listen-on port 853/r;
	spew('/etc/bind/named.conf', $conf . "controls { };\n");
	run(qw(rndc-confgen -a -u bind));
	spew('/etc/bind/named.conf', $conf);
}

sub unbound {
	key_and_name(qw(Unbound resolver /usr/sbin/unbound));
	fresh('/etc/unbound');
	spew('/etc/unbound/unbound.conf', here(text($dns, '^server:')) =~ s{/dns\.pem}{/resolver.pem}gr .
	    "    chroot: \"\"\n    use-syslog: no\n    access-control: 127.0.0.0/8 allow\n");
}

sub mariadb {
	my $uid = uid('mysql');
	key_and_name(qw(MariaDB db /usr/sbin/mariadbd --user mysql));
	fresh(qw(/etc/mysql /var/lib/mysql));
	chown $uid, -1, '/var/lib/mysql';
	ok_run([ qw(mariadb-install-db --no-defaults --user=mysql --auth-root-authentication-method=socket --skip-test-db) ], 'MariaDB: its tables', { timeout => 300 });
	mkdir '/run/mysqld';
	chown $uid, -1, '/run/mysqld';
	spew('/etc/mysql/my.cnf', here(text('MariaDB', '^\\[mariadbd\\]')) =~ s{/108/}{/$uid/}gr . "socket = /run/mysqld/mysqld.sock\n");
	spew('/etc/mysql/debian-start', "#!/bin/sh\n");
	chmod 0755, '/etc/mysql/debian-start';
}

sub rsyslog {
	key_and_name(qw(rsyslog log /usr/sbin/rsyslogd));
	spew('/etc/rsyslog.conf', here(text('rsyslog', '^global')) =~ s{x509/certvalid}{anon}r . "*.* /run/tao-test-syslog\n");
}

# --- the table

# The first instance of Postfix is a unit of its own from Debian 13 on.
my $postfix = -e "$UNITS/postfix.service" && slurp("$UNITS/postfix.service") =~ /^Type=forking/m ? 'postfix.service' : 'postfix@.service';
my @services = (
	{ name => 'nginx', unit => 'nginx.service', configure => \&nginx, port => 443 },
	{ name => 'HAProxy', unit => 'haproxy.service', configure => \&haproxy, port => 443, adapt => sub { $_[0] =~ s{/0/web\.pem}{/0/lb.pem}gr } },
	{ name => 'Mosquitto', unit => 'mosquitto.service', configure => \&mosquitto, port => 8883 },
	{ name => 'PostgreSQL', unit => 'postgresql@.service', instance => "$pg-main", configure => \&postgresql, port => 5432,
		server => 'db.example.org', args => [qw(-starttls postgres)], adapt => \&of_postgres },
	{ name => 'Postfix', unit => $postfix, instance => '-', configure => \&postfix, port => 25, server => 'mail.example.org', args => [qw(-starttls smtp)] },
	{ name => 'Apache httpd', unit => 'apache2.service', configure => \&apache, port => 443 },
	{ name => 'stunnel', unit => 'stunnel@.service', instance => 'x', configure => \&stunnel, port => 443 },
	{ name => 'lighttpd', unit => 'lighttpd.service', needs => '/usr/lib/lighttpd/mod_openssl.so', configure => \&lighttpd, port => 443 },
	{ name => 'Redis', unit => 'redis-server.service', configure => \&redis, port => 6379 },
	{ name => 'Dovecot', unit => 'dovecot.service', configure => \&dovecot, port => 993, server => 'mail.example.org' },
	{ name => 'MariaDB', unit => 'mariadb.service', configure => \&mariadb, port => 3306, args => [qw(-starttls mysql)] },
	{ name => 'BIND', heading => $dns, drop_in => '^ExecStart=.*named', unit => 'named.service', configure => \&bind, port => 853 },
	{ name => 'Unbound', heading => $dns, drop_in => '^ExecStart=.*unbound', unit => 'unbound.service', configure => \&unbound, port => 853 },
	{ name => 'rsyslog', unit => 'rsyslog.service', needs => (glob '/usr/lib/*/rsyslog/lmnsd_ossl.so')[0] // '/usr/lib/rsyslog/lmnsd_ossl.so', configure => \&rsyslog, port => 6514 },
	{ name => 'OpenVPN', unit => 'openvpn-server@.service', instance => 'x' },
	{ name => 'FreeRADIUS and wpa_supplicant: EAP-TLS', unit => 'freeradius.service' },
);

sub services { return @services }

sub configure {
	my ($s, $dir) = @_;
	my @missing = grep { !-e $_ } "$UNITS/$s->{unit}", $s->{needs} // ();
	return "$s->{name}: there is no $missing[0]" if @missing;
	$s->{configure}->($dir);
	return undef;
}

1;
