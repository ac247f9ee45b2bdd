# Debian's Postfix and Dovecot: a master starts other executables, and the one that
# has the TLS connection is measured for itself inside the instance; the key is its own. Both clear
# their environment; Dovecot's login process, and one smtpd here, read nothing but what they have
# when they are in a chroot. The same with keys in files.
use strict;
use warnings;
use Test::More;
use TaoDaemon qw(:DEFAULT holds_no_key holds_key family);
use TaoDovecot;
use TaoTest;

plan skip_all => 'Postfix and Dovecot start as root only' if $< != 0;
plan skip_all => 'Postfix and Dovecot clear the environment, and with it the sanitizers\' runtime' if config('TAO_ASAN');
need_programs(qw(postfix dovecot openssl setpriv));
need_same_openssl('/usr/lib/postfix/sbin/master', '/usr/sbin/dovecot');
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;
my %uid = (root => 0, dovenull => scalar getpwnam 'dovenull');
my ($smtpd, $smtp, $login) = ('/usr/lib/postfix/sbin/smtpd', '/usr/lib/postfix/sbin/smtp', '/usr/lib/dovecot/imap-login');

ok_run([ $host->cmd(qw(key new smtp --for), $smtpd) ], 'a key for smtpd');
ok_run([ $host->cmd('trust', $smtpd, qw(--serves localhost)) ], 'trust');
ok_run([ $host->cmd(qw(run --prepare), $smtpd) ], 'its first certificate');
ok_run([ $host->cmd(qw(key new relay --for), $smtp) ], 'a key for smtp, the client');
ok_run([ $host->cmd('trust', $smtp, qw(--serves localhost)) ], 'trust');
ok_run([ $host->cmd(qw(run --prepare), $smtp) ], 'its first certificate');
ok_run([ $host->cmd(qw(key new imap --user dovenull --for), $login) ], 'a key for imap-login');
ok_run([ $host->cmd('trust', $login, qw(--serves localhost --user dovenull)) ], 'trust');
ok_run([ qw(setpriv --reuid dovenull --regid dovenull --clear-groups), $host->cmd(qw(run --prepare), $login) ],
	'its first certificate');

sub files { my ($user, $name) = @_; return map { "$state/$_/$uid{$user}/$name.pem" } qw(certs keys) }

# One exchange in both versions, from a running program with that executable.
sub serves {
	my ($what, $port, $ca, $exe, %opt) = @_;
	for my $version (qw(1_2 1_3)) {
		my $got = shown($port, $version, $ca, \%opt);
		ok($got->{verified} && $got->{signed} eq 'ECDSA', "$what: TLS $version, chain and signature") or diag($got->{text});
		like($got->{text}, $opt{until}, "$what: data both ways");
		next if !defined $exe;
		my ($hash) = run(qw(openssl dgst -sha256 -r), $exe)->{out} =~ /^(\w+)/;
		like($got->{program} // '', qr/^Measured\(\[$hash\],/, "$what: that executable");
		my @names = map { measured($_->{principal}) } running($host);
		ok((grep { $_ eq ($got->{program} // '') } @names), "$what: as the host names a program that runs")
		    or diag("@names\n$got->{program}");
	}
}

# TLS begins when the protocol is asked to.
sub doctored {
	my ($what, $port, $protocol) = @_;
	like(run(bin('tao'), 'doctor', "localhost:$port", { timeout => 60 })->{out}, qr/^ok .*it speaks $protocol, and begins TLS.*^ok .*TLSv1\.3/ms,
		"$what: tao doctor HOST:PORT");
}

# What runs that executable below the master has no private key; or has the one in a file.
sub scanned {
	my ($what, $master, $exe, $user, $name, $file) = @_;
	my @pids = grep { (readlink("/proc/$_/exe") // '') eq $exe } family($master->pid);
	ok(@pids > 0, "$what: runs");
	return holds_key($what, $file, $dir, @pids) if defined $file;
	my (undef, $stub) = files($user, $name);
	holds_no_key($what, $host, $stub, $state, @pids);
}

# A command, while clients connect again and again: none of them fails.
sub reloads {
	my ($what, $port, $ca, $args, @cmd) = @_;
	my @client = (qw(openssl s_client -brief -verify_return_error -verify_hostname localhost -CAfile), $ca, '-connect', "127.0.0.1:$port", @$args);
	my $load = spawn('/bin/sh', '-c', "while :; do if @client </dev/null >'$dir/load' 2>&1; then echo fine; else echo bad; cat '$dir/load'; fi; done");
	my $more = sub {
		my $before = length $load->log;
		ok(wait_for(sub { 5 <= (() = substr($load->log, $before) =~ /^(?:fine|bad)/mg) }, 30), "$what: clients connect");
	};
	$more->();
	ok_run(\@cmd, "$what: reload");
	$more->();
	$load->stop('KILL');
	kill 'KILL', -$load->pid;
	is(join("\n", $load->log =~ /^bad\n(.*?)(?=^fine|\z)/msg), '', "$what: no client fails while it reloads");
}

# --- Postfix: smtpd takes mail, hands it to smtp, which gives it to another smtpd, who wants to know it

sub postfix_conf {
	my ($at, $cert, $key, $ca, $client_cert, $client_key, @port) = @_;
	mkdir $_ for $at, map { "$at/$_" } qw(conf spool data);
	chown scalar getpwnam('postfix'), -1, "$at/data";
	spew("$at/conf/master.cf", <<CF);
127.0.0.1:$port[0] inet n - n - - smtpd -o content_filter=smtp:[localhost]:$port[2]
127.0.0.1:$port[1] inet n - y - - smtpd -o content_filter=smtp12:[localhost]:$port[2]
127.0.0.1:$port[2] inet n - n - - smtpd -o content_filter= -o smtpd_tls_req_ccert=yes -o myhostname=next.localhost
smtp unix - - n - - smtp -o smtp_tls_mandatory_protocols=>=TLSv1.3
smtp12 unix - - n - - smtp -o smtp_tls_mandatory_protocols=TLSv1.2
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
CF
	spew("$at/conf/main.cf", <<CF);
compatibility_level = 3.6
queue_directory = $at/spool
data_directory = $at/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = $at/log
maillog_file_prefixes = $at
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = localhost
mydestination = localhost
local_recipient_maps =
local_transport = discard
alias_maps =
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = $cert
smtpd_tls_key_file = $key
smtpd_tls_session_cache_database =
smtpd_tls_CAfile = $ca
smtpd_tls_loglevel = 1
smtp_tls_security_level = verify
smtp_tls_verify_cert_match = hostname
smtp_tls_CAfile = $ca
smtp_tls_cert_file = $client_cert
smtp_tls_key_file = $client_key
smtp_tls_loglevel = 1
smtp_host_lookup = native
smtp_address_preference = ipv4
smtpd_forbid_unauth_pipelining = no
import_environment = MAIL_CONFIG MAIL_LOGTAG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME OPENSSL_CONF
export_environment = TZ MAIL_CONFIG LANG OPENSSL_CONF
CF
	ok_run([ qw(postfix -c), "$at/conf", 'check' ], 'postfix check');
}

# By smtp, with its certificate, to an smtpd which saw its signature.
sub relayed {
	my ($what, $log) = @_;
	for my $version (qw(1.2 1.3)) {
		like($log, qr{postfix/smtp(?:12)?\[.*Verified TLS connection established to localhost\S*: TLSv\Q$version\E},
			"$what: its client, TLS $version, verifies the server");
		like($log, qr{postfix/smtpd\[.*Trusted TLS connection established from localhost\S*: TLSv\Q$version\E},
			"$what: which knows the client");
	}
	like($log, qr{postfix/smtpd\[.*from localhost.*TLSv1\.3.* client-signature ECDSA}, "$what: and saw its signature");
}

sub postfix {
	my ($what, $cert, $key, $ca, $client, @start) = @_;
	my @port = map { free_port() } 1 .. 3;
	my $at = "$dir/postfix-$what";
	postfix_conf($at, $cert, $key, $ca, @$client, @port);
	my $master = spawn(@start, '/usr/sbin/postfix', '-c', "$at/conf", 'start-fg');
	wait_for(sub { IO::Socket::INET->new("127.0.0.1:$port[1]") || !$master->alive }, 30);
	my %mail = (args => [ qw(-starttls smtp -crlf) ], until => qr/^250 2\.0\.0 Ok: queued as/m,
		say => join("\n", 'EHLO x', 'MAIL FROM:<a@localhost>', 'RCPT TO:<b@localhost>', 'DATA', 'hello', '.', 'QUIT', ''));
	serves("postfix, $what", $port[0], $ca, @start ? $smtpd : undef, %mail);
	doctored("postfix, $what", $port[0], 'SMTP');
	serves("postfix in a chroot, $what", $port[1], $ca, @start ? $smtpd : undef, %mail);
	# What smtpd gave its other processes came to its end.
	ok(wait_for(sub { my $n = () = slurp("$at/log") =~ m{postfix/discard.*status=sent}g; return $n >= 4 }, 60),
		"postfix, $what: the mail was delivered") or diag(slurp("$at/log"));
	relayed("postfix, $what", slurp("$at/log"));
	my @file = @start ? () : ($key);
	scanned("postfix, $what, smtpd", $master, $smtpd, 'root', 'smtp', @file);
	scanned("postfix, $what, smtp", $master, $smtp, 'root', 'relay', @file);
	my @starttls = qw(-starttls smtp);
	reloads("postfix, $what", $port[0], $ca, \@starttls, qw(postfix -c), "$at/conf", 'reload');
	serves("postfix reloaded, $what", $port[1], $ca, @start ? $smtpd : undef, %mail);
	run(qw(postfix -c), "$at/conf", 'stop');
	ok(defined $master->wait(30), "postfix, $what: ends");
	unlike(slurp("$at/log"), qr/TLS.*(?:error|cannot)|fatal|panic|Sanitizer/, "postfix, $what: no errors") or diag(slurp("$at/log"));
}

controls(sub { my $file = file_key('postfix'); postfix('file', @$file, [ @$file[0, 1] ]) });
postfix('sealed', files('root', 'smtp'), "$state/policy.pem", [ files('root', 'relay') ], $host->cmd(qw(run --name postfix)));

# --- Dovecot

sub dovecot_conf {
	my ($at, $cert, $key, $port, $starttls) = @_;
	my $text = dovecot_common($at, 'required', <<CONF) . dovecot_mail("maildir:$at/mail") . dovecot_users("$at/mail");
inet_listener imap {
    port = $starttls
  }
  inet_listener imaps {
    port = $port
    ssl = yes
  }
CONF
	mkdir "$at/mail";
	chown scalar getpwnam('nobody'), -1, "$at/mail";
	return spew("$at/conf", $text . (dovecot_24() ? <<NEW : <<OLD) . "ssl_min_protocol = TLSv1.2\n");
ssl_server_cert_file = $cert
ssl_server_key_file = $key
NEW
ssl_cert = <$cert
ssl_key = <$key
OLD
}

# Those in their chroot.
sub logins {
	my ($at) = @_;
	return grep { (readlink("/proc/$_/exe") // '') eq $login && (readlink("/proc/$_/root") // '') =~ /^\Q$at\E/ }
	    map { m{(\d+)$} } glob '/proc/[0-9]*';
}

sub dovecot {
	my ($what, $cert, $key, $ca, @start) = @_;
	my ($port, $starttls, $at) = (free_port(), free_port(), "$dir/dovecot-$what");
	my $master = spawn(@start, qw(/usr/sbin/dovecot -F -c), dovecot_conf($at, $cert, $key, $port, $starttls));
	wait_for(sub { IO::Socket::INET->new("127.0.0.1:$port") || !$master->alive }, 30);
	my %imap = (args => ['-crlf'], until => qr/^c OK/m,
		say => qq(a login u secret\nb list "" *\nc noop\n));
	serves("dovecot, $what", $port, $ca, @start ? $login : undef, %imap);
	doctored("dovecot, $what", $starttls, 'IMAP');
	my @before = logins($at);
	reloads("dovecot, $what", $port, $ca, [], qw(doveadm -c), "$at/conf", 'reload');
	ok(wait_for(sub { my %now = map { $_ => 1 } logins($at); return !grep { $now{$_} } @before }, 30),
		"dovecot, $what: the login processes from before end");
	serves("dovecot reloaded, $what", $port, $ca, @start ? $login : undef, %imap);
	my ($pid) = logins($at);
	ok($pid, "dovecot, $what: login processes are in a chroot");
	scanned("dovecot, $what", $master, $login, 'dovenull', 'imap', @start ? () : ($key));
	is($master->stop, 0, "dovecot, $what: ends");
	unlike(slurp("$at/log"), qr/SSL_accept\(\) failed|Fatal|Panic|Sanitizer/, "dovecot, $what: no errors") or diag(slurp("$at/log"));
}

controls(sub { dovecot('file', @{ file_key('dovecot') }) });
dovecot('sealed', files('dovenull', 'imap'), "$state/policy.pem", $host->cmd(qw(run --name dovecot)));

done_testing();
