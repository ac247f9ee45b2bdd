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

my $page = slurp(srctop() . '/man/tao-applications.7');
my $units = '/lib/systemd/system';

# The literal texts below a heading, as they are shown.
sub texts {
	my ($heading) = @_;
	my ($part) = $page =~ /^\.Ss \Q$heading\E\n(.*?)(?=^\.S[sh] )/ms or return;
	return map { s/\\e/\\/gr } $part =~ /^\.Bd -literal.*?\n(.*?)^\.Ed$/msg;
}

# Where the one among them is that has this.
sub text { my ($heading, $like) = @_; my ($text) = grep { /$like/m } texts($heading); return $text // '' }

my ($state, $dir) = ('', tmpdir());
sub here { return $state eq '' ? $_[0] : $_[0] =~ s{/usr/bin/tao\b}{bin('tao') . " -d $state"}ger =~ s{/var/lib/tao\b}{$state}gr }

my $begin = ($page =~ /^Every drop-in begins with the lines\n\.Bd.*?\n(.*?)^\.Ed$/ms)[0] // '';
like($begin, qr/After=taod\.service.*^\[Service\]$/ms, 'how drop-ins begin');
sub drop_in { return $begin . text($_[0], '^ExecStart=$') }

# --- by systemd-analyze: each drop-in, with the unit it is for

# The first instance of Postfix is a unit of its own from Debian 13 on.
my $postfix = -e "$units/postfix.service" && slurp("$units/postfix.service") =~ /^Type=forking/m ? 'postfix.service' : 'postfix@.service';
my %unit = (nginx => 'nginx.service', HAProxy => 'haproxy.service', Postfix => $postfix, Dovecot => 'dovecot.service',
	'Apache httpd' => 'apache2.service', stunnel => 'stunnel@.service', PostgreSQL => 'postgresql@.service', Mosquitto => 'mosquitto.service',
	lighttpd => 'lighttpd.service', Redis => 'redis-server.service', MariaDB => 'mariadb.service', rsyslog => 'rsyslog.service',
	OpenVPN => 'openvpn-server@.service', 'FreeRADIUS and wpa_supplicant: EAP-TLS' => 'freeradius.service');
{
	my @all = $page =~ /^\.Ss (.*)\n(?=(?:(?!^\.Ss ).*\n)*?^ExecStart=$)/mg;
	is(join("\n", sort grep { !/^BIND/ } @all), join("\n", sort keys %unit), 'the page has drop-ins for these and no others');
}
is(scalar(split /\n/, text('nginx', '^ExecStart=$')), 3, 'nginx: three lines');
is(slurp(bldtop() . '/conf/nginx-tao.conf') =~ /^\[Service\]\n(.*)/ms ? $1 =~ s{^(ExecStart=).*?/tao }{$1/usr/bin/tao }mr =~ s{=/\S*?/lib/tao/}{=/var/lib/tao/}r : '',
	text('nginx', '^ExecStart=$'), 'nginx: as in the sample file');

SKIP: {
	last SKIP if $ENV{TAO_UNITS};
	skip 'systemd-analyze is not installed', 1 if !-x '/usr/bin/systemd-analyze';
	for my $name (sort keys %unit) {
		my $unit = $unit{$name};
		SKIP: {
			skip "$name: $unit is not installed", 1 if !-e "$units/$unit";
			my $instance = $unit =~ s/\@\./\@x./r;
			my $path = "$dir/units-$unit";
			mkdir $_ for $path, "$path/$unit.d";
			spew("$path/taod.service", "[Service]\nExecStart=/bin/true\n");
			spew("$path/$unit.d/tao.conf", drop_in($name) =~ s{/usr/bin/tao\b}{bin('tao')}ger);
			my $r = run(qw(systemd-analyze verify --man=no --recursive-errors=no), $instance, { env => { SYSTEMD_UNIT_PATH => "$path:" } });
			skip "$name: systemd-analyze does not work here: $r->{err}", 1 if $r->{err} =~ /Failed to (?:initialize|startup) manager/;
			my $u = unit($unit, $name, 'x');
			my @may = map { split } @{ $u->{ExecPaths} // [] };
			my @cannot = grep { my $program = (split)[0] =~ s/^[-+!:\@]+//r; !grep { index($program, $_) == 0 } @may }
			    map { @{ $u->{$_} // [] } } qw(ExecStartPre ExecStart ExecReload);
			is($u->{NoExecPaths} ? "@cannot" : '', '', "$name: may execute what it starts");
			is(join("\n", grep { /tao/ } split /\n/, $r->{err}), '', "$name: nothing is said of its drop-in, for $unit");
		}
	}
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
sub fresh { for my $at (@_) { run(qw(mount -t tmpfs -o mode=755 none), $at) if -d $at } }
fresh(qw(/run /etc/systemd/system));
mkdir '/run/lock';
my $host = start_host();
$state = $host->dir;

# --- a unit: what is left of it with its drop-in

sub unit {
	my ($file, $name, $instance) = @_;
	my %u = (env => {});
	my @lines = split /\n/, (slurp("$units/$file") . "\n" . here(drop_in($name))) =~ s/\\\n//gr;
	for (@lines) {
		my ($key, $value) = /^(\w+)=(.*)$/ or next;
		$value =~ s/%[iI]/$instance/g if defined $instance;
		if ($key =~ /^Exec/) {
			$u{$key} = [ $value eq '' ? () : (@{ $u{$key} // [] }, $value) ];
		} elsif ($key eq 'Environment') {
			$u{env} = { %{ $u{env} }, map { /^(\w+)=(.*)$/s } shellwords($value) };
		} else {
			$u{$key} = $value;
		}
	}
	$u{name} = $name;
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

# A line of the page as root's shell does it.
sub as_told {
	my ($what, $text) = @_;
	for my $line (map { /^# (.*)/s } split /\n(?=# )/, here($text =~ s/\\\n\s*//gr =~ s{^# tao\b}{# /usr/bin/tao}mgr =~ s{ tao (run|key|trust)}{ /usr/bin/tao $1}gr)) {
		ok_run([ 'sh', '-c', $line ], "$what: # " . substr $line, 0, 60);
	}
}

# A service: from its start to its stop, seen by a client.
sub service {
	my ($u, $port, %opt) = @_;
	my $name = delete $opt{name} // 'www.example.org';
	starts($u);
	my $seen = sub {
		my ($when) = @_;
		my $got;
		my @args = ('-verify_hostname', $name, @{ $opt{args} // [] });
		wait_for(sub { $got = shown($port, '1_3', "$state/policy.pem", { args => \@args, until => qr/Verify return code|errno/ }); $got->{text} =~ /Verification: OK/ }, 20);
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

sub key_and_name {
	my ($what, $name, $program, @user) = @_;
	ok_run([ $host->cmd('key', 'new', $name, '--for', $program, @user) ], "$what: a key");
	ok_run([ $host->cmd('trust', $program, qw(--serves www.example.org), @user) ], "$what: a name");
}

SKIP: {
	skip 'nginx is not installed', 1 if !-e "$units/nginx.service";
	my ($common) = $page =~ /^The steps that are the same for all:\n\.Bd.*?\n(.*?)^\.Ed$/ms;
	as_told('nginx', $common =~ s/^# (?:install|systemctl).*\n//mgr);
	fresh('/etc/nginx');
	spew('/etc/nginx/nginx.conf', "user www-data;\npid /run/nginx.pid;\nerror_log $dir/nginx.log;\nevents { }\nhttp { access_log off; ssl_protocols TLSv1.2 TLSv1.3; server { listen 443 ssl;\n" .
		here(text('nginx', '^ssl_certificate ')) . "return 200 hello; } }\n");
	my $u = unit('nginx.service', 'nginx');
	spew('/etc/nginx/nginx.conf', slurp('/etc/nginx/nginx.conf') =~ s/listen/lisen/r);
	isnt(run(command($u, $u->{ExecStartPre}[0]))->{status}, 0, 'nginx: the check finds a mistake');
	spew('/etc/nginx/nginx.conf', slurp('/etc/nginx/nginx.conf') =~ s/lisen/listen/r);
	service($u, 443);
}

SKIP: {
	skip 'HAProxy is not installed', 1 if !-e "$units/haproxy.service";
	my ($common) = $page =~ /^The steps that are the same for all:\n\.Bd.*?\n(.*?)^\.Ed$/ms;
	as_told('HAProxy', $common =~ s/^# (?:install|systemctl|tao run).*\n//mgr =~ s{/usr/sbin/nginx}{/usr/sbin/haproxy}gr =~ s/new web/new lb/r);
	fresh('/etc/haproxy');
	spew('/etc/haproxy/haproxy.cfg', "global\n user haproxy\n group haproxy\ndefaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nfrontend f\n" .
		(here(text('HAProxy', '^bind')) =~ /^(bind.*\n)/)[0] . " http-request return status 200\n");
	my $u = unit('haproxy.service', 'HAProxy');
	s{/0/web\.pem}{/0/lb.pem}g for @{ $u->{ExecStartPre} };
	service($u, 443);
}

SKIP: {
	skip 'Mosquitto is not installed', 1 if !-e "$units/mosquitto.service";
	my $uid = getpwnam 'mosquitto';
	key_and_name(qw(Mosquitto mqtt /usr/sbin/mosquitto --user mosquitto));
	fresh(qw(/etc/mosquitto /var/log));
	spew('/etc/mosquitto/mosquitto.conf', "listener 8883\n" . here(text('Mosquitto', '^certfile')) =~ s{/107/}{/$uid/}gr);
	service(unit('mosquitto.service', 'Mosquitto'), 8883);
}

SKIP: {
	my ($bin) = reverse sort glob '/usr/lib/postgresql/*/bin';
	skip 'PostgreSQL is not installed', 1 if !-e "$units/postgresql\@.service" || !defined $bin;
	my ($version, $uid) = ($bin =~ m{/(\d+)/bin}, scalar getpwnam 'postgres');
	fresh(qw(/etc/postgresql /var/lib/postgresql /var/log));
	mkdir '/run/postgresql';
	mkdir "/etc/postgresql/$version";
	mkdir "/etc/postgresql/$version/main";
	chown $uid, -1, '/var/lib/postgresql', '/run/postgresql';
	my @initdb = (qw(setpriv --reuid=postgres --regid=postgres --init-groups), "$bin/initdb", qw(-A peer --no-sync -D), "/var/lib/postgresql/$version/main");
	ok_run([@initdb], 'PostgreSQL: a cluster');
	my $this = sub { return $_[0] =~ s{postgresql/15/}{postgresql/$version/}gr =~ s{/101/}{/$uid/}gr };
	as_told('PostgreSQL', $this->(text('PostgreSQL', '^# tao key new')));
	spew("/etc/postgresql/$version/main/postgresql.conf", "data_directory = '/var/lib/postgresql/$version/main'\nexternal_pid_file = '/run/postgresql/$version-main.pid'\nunix_socket_directories = '/run/postgresql'\n" .
		here($this->(text('PostgreSQL', '^ssl = on'))));
	my $u = unit('postgresql@.service', 'PostgreSQL', "$version-main");
	$_ = [ map { $this->($_) } @$_ ] for grep { ref eq 'ARRAY' } values %$u;
	service($u, 5432, name => 'db.example.org', args => [qw(-starttls postgres)]);
}

SKIP: {
	skip 'Postfix is not installed', 1 if !-e "$units/postfix\@.service";
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
	chown scalar getpwnam('postfix'), -1, '/var/lib/postfix';
	my $u = unit($postfix, 'Postfix', '-');
	service($u, 25, name => 'mail.example.org', args => [qw(-starttls smtp)]);
}

SKIP: {
	skip 'Apache httpd is not installed', 1 if !-e "$units/apache2.service";
	key_and_name(qw(Apache apache /usr/sbin/apache2));
	my @of = map { ($_, slurp("/etc/apache2/$_")) } qw(apache2.conf envvars);
	fresh(qw(/etc/apache2 /var/log));
	mkdir $_ for '/var/log/apache2', map { "/etc/apache2/$_-enabled" } qw(mods conf sites);
	while (my ($file, $text) = splice @of, 0, 2) { spew("/etc/apache2/$file", $text) }
	spew('/etc/apache2/ports.conf', "Listen 443\n");
	spew('/etc/apache2/mods-enabled/all.load', join '', map { "LoadModule ${_}_module /usr/lib/apache2/modules/mod_$_.so\n" } qw(mpm_event authz_core socache_shmcb ssl));
	spew('/etc/apache2/sites-enabled/tls.conf', "ServerName www.example.org\nSSLEngine on\n" . here(text('Apache httpd', '^SSLCertificateFile')) =~ s{/web\.pem}{/apache.pem}gr);
	service(unit('apache2.service', 'Apache httpd'), 443);
}

SKIP: {
	skip 'stunnel is not installed', 1 if !-e "$units/stunnel\@.service";
	key_and_name(qw(stunnel tunnel /usr/bin/stunnel4));
	fresh('/etc/stunnel');
	spew('/etc/stunnel/x.conf', "foreground = yes\n[x]\naccept = 443\nexec = /bin/cat\n" . here(text('stunnel', '^cert = ')) =~ s{/web\.pem}{/tunnel.pem}gr);
	service(unit('stunnel@.service', 'stunnel', 'x'), 443);
}

SKIP: {
	skip 'lighttpd with its TLS module is not installed', 1 if !-e "$units/lighttpd.service" || !-e '/usr/lib/lighttpd/mod_openssl.so';
	key_and_name(qw(lighttpd light /usr/sbin/lighttpd));
	fresh('/etc/lighttpd');
	spew('/etc/lighttpd/lighttpd.conf', qq(server.modules = ( "mod_openssl" )\nserver.document-root = "/var/www"\nserver.port = 443\nssl.engine = "enable"\n) .
		here(text('lighttpd', '^ssl.pemfile')) =~ s{/web\.pem}{/light.pem}gr);
	service(unit('lighttpd.service', 'lighttpd'), 443);
}

SKIP: {
	skip 'Redis is not installed', 1 if !-e "$units/redis-server.service";
	my $uid = getpwnam 'redis';
	key_and_name(qw(Redis redis /usr/bin/redis-server --user redis));
	fresh('/etc/redis');
	spew('/etc/redis/redis.conf', "port 0\ntls-auth-clients no\nsave \"\"\n" . here(text('Redis', '^tls-port')) =~ s{/106/}{/$uid/}gr);
	service(unit('redis-server.service', 'Redis'), 6379);
}

SKIP: {
	skip 'Dovecot is not installed', 1 if !-e "$units/dovecot.service";
	my $uid = getpwnam 'dovenull';
	as_told('Dovecot', text('Dovecot', '^# tao key new imap'));
	my ($version) = run(qw(/usr/sbin/dovecot --version))->{out} =~ /^(\d+\.\d+)/;
	my $new = $version >= 2.4;
	fresh('/etc/dovecot');
	spew('/etc/dovecot/dovecot.conf', ($new ? "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n" : '') . "protocols = imap\nssl = required\nlog_path = $dir/dovecot.log\n" .
		here(text('Dovecot', $new ? '^ssl_server_cert_file' : '^ssl_cert')) =~ s{/UID/}{/$uid/}gr);
	service(unit('dovecot.service', 'Dovecot'), 993, name => 'mail.example.org');
}

done_testing();
