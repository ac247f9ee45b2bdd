# Attacks on Tao channels: somebody on the wire, peers with a stack of their own, applications that set
# what they like, sessions from before a revocation, hosts and modules that are missing.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX qw(mkfifo);
use Test::More;
use TaoTest;

need_programs('openssl');
my $dir = tmpdir();
my $NONCES = 4096; # remembered at once: a flood of identities is more than that
my $host = start_host(conf => "max_channel_nonces = $NONCES\n");
my $state = $host->dir;

# --- programs, names, certificates

sub program {
	my ($name) = @_;
	spew("$dir/$name", slurp(tool('tlspeer')) . $name); # one of its own
	chmod 0755, "$dir/$name";
	return "$dir/$name";
}
my ($S, $C, $X) = map { program($_) } qw(server client stranger);

# A file with something replaced, which has to be there.
sub replaced {
	my ($text, $from, $to) = @_;
	$text =~ s/$from/$to/m or die "nothing matches $from in:\n$text";
	return $text;
}
my $default = $host->conf('default');
my $nogroup = $host->conf('nogroup', 'group = no');
my $require = $host->conf('require', 'mode = require');
my $certificate = $host->conf('certificate', 'mode = certificate');
my $off = $host->conf('off', 'mode = off');
my $bare = spew("$dir/bare.cnf", replaced(slurp("$state/openssl.cnf"), qr/^tao_tls = .*$/m, '')); # the provider alone

ok_run([ $host->cmd(qw(key new web --for), $S) ], 'a key');
ok_run([ $host->cmd('trust', $S, map { ('--serves', $_) } qw(a.test v.test)) ], 'of a server');
ok_run([ $host->cmd('trust', $C) ], 'a client');
ok_run([ $host->cmd('trust', $X) ], 'and a stranger');
ok_run([ $host->cmd('connect', $C, $S) ], 'the client may talk to the server');
ok_run([ $host->cmd(qw(run --prepare), $S) ], 'files for the server');
my @web = ("$state/certs/$</web.pem", "$state/keys/$</web.pem");
my @policy = ('-a', "$state/policy.pem");

sub authority { # and a certificate by it
	my ($name) = @_;
	my ($key, $cert) = ("$dir/$name.key", "$dir/$name.crt");
	run(qw(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj), "/CN=$name", '-addext',
		"subjectAltName=DNS:$name", '-keyout', $key, '-out', $cert);
	return ($cert, $key);
}
my @foreign = authority('a.test');
my ($other_ca) = authority('other.test');

# --- servers and clients

my ($server, $port);
sub serve {
	my ($conf, @more) = @_;
	$server->stop if $server;
	my @run = defined $conf ? $host->cmd(qw(run --quiet --openssl-conf), $conf, '--') : ();
	$server = spawn(@run, $S, 'server', @more, defined $conf ? @web : @foreign);
	$port = $server->wait_for_line(qr/^port (\d+)$/m, 30) // diag($server->log);
}
sub hosted { return $host->cmd(qw(run --quiet --openssl-conf), $_[0], '--', $_[1] // $C) }
sub parsed {
	my ($text) = @_;
	my ($line) = $text =~ /^((?:ok|failed)\b.*)$/m;
	my %t = ($line // '') =~ /\b(version|group|reused|verify|verified|peer)=(\S*)/g;
	$t{group} =~ s{^((?:tao_)?x25519)mlkem768$}{lc $1}ie if defined $t{group}; # those with ML-KEM, where there is that
	return { ok => ($line // '') =~ /^ok/ ? 1 : 0, line => $line // $text, %t };
}
# What the client saw, and what the server did in that connection.
sub say_to {
	my ($run, @args) = @_;
	my $to = $args[-1] =~ /^\d+$/ ? pop @args : $port;
	my $before = length $server->log;
	my $r = run(@$run, 'client', @args, $to, { timeout => 30 });
	my $t = parsed("$r->{out}$r->{err}");
	$t->{alive} = $r->{timeout} ? 0 : 1;
	wait_for(sub { substr($server->log, $before) =~ /^(?:ok|failed).*\n/m }, 5) if $r->{out} =~ /^(?:ok|failed)/m;
	$t->{server} = parsed(substr $server->log, $before);
	return $t;
}
sub show { my ($t) = @_; diag("client: $t->{line}\nserver: $t->{server}{line}"); return 0 }
sub talks {
	my ($t, $want, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %got = map { $_ => $t->{$_} } keys %$want;
	ok($t->{ok} && $t->{server}{ok}, $name) or show($t);
	is_deeply(\%got, $want, 'as it has to be') or show($t);
}
# Neither end got as far as data.
sub refused {
	my ($t, $name, $like) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!$t->{ok} && !$t->{server}{ok} && $t->{alive}, $name) or show($t);
	like("$t->{line} $t->{server}{line}", $like, 'for that reason') if defined $like;
}
sub log_has {
	my ($like, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $log = '';
	ok(wait_for(sub { ($log = $host->tao('log')->{out}) =~ $like }, 10), $name) or diag($log =~ /(.{0,3000})\z/s);
}
my @a = qw(-n a.test);
my %psk = (version => 'TLSv1.3', reused => 1);

serve($default);
talks(say_to([ hosted($default) ], @a), { %psk, group => 'tao_x25519', verify => 0 }, 'a channel');

# --- somebody on the wire

# A proxy whose children hand on what comes, the client's first message through that function.
my $proxies = 0;
sub proxy {
	my ($edit) = @_;
	my $listen = IO::Socket::INET->new(Listen => 8, LocalAddr => '127.0.0.1', LocalPort => 0) or die;
	my $record = "$dir/wire" . $proxies++;
	my $pid = fork // die;
	if ($pid == 0) {
		local $SIG{PIPE} = 'IGNORE';
		while (my $c = $listen->accept) {
			hand_on($c, IO::Socket::INET->new("127.0.0.1:$port"), $edit, $record);
		}
		POSIX::_exit(0);
	}
	my $at = $listen->sockport;
	close $listen;
	return { pid => $pid, port => $at, record => $record };
}
sub end_proxy { kill 'KILL', $_[0]{pid}; waitpid $_[0]{pid}, 0 }
sub first_record {
	my ($from) = @_;
	my $bytes = '';
	while (length $bytes < 5 || length $bytes < 5 + unpack('n', substr $bytes, 3, 2)) {
		sysread($from, $bytes, 4096, length $bytes) or last;
	}
	return $bytes;
}
sub hand_on {
	my ($c, $s, $edit, $record) = @_;
	my $first = first_record($c);
	spew("$record.hello", $first);
	syswrite $s, $edit->($first);
	my $back = '';
	my $select = IO::Select->new($c, $s);
	while (my @ready = $select->can_read(20)) {
		for my $from (@ready) {
			my $n = sysread $from, my $bytes, 16384;
			if (!$n) {
				spew("$record.back", $back);
				close $_ for $c, $s;
				return;
			}
			$back .= $bytes if $from == $s;
			syswrite $from == $s ? $c : $s, $bytes;
		}
	}
}

# A ClientHello or ServerHello: what is before its extensions, and these.
sub hello {
	my ($record) = @_;
	my $body = substr $record, 9, unpack('n', substr $record, 7, 2);
	my $server = ord(substr $record, 5, 1) == 2;
	my $at = 34 + 1 + ord substr $body, 34, 1;
	$at += $server ? 3 : 2 + unpack 'n', substr $body, $at, 2;
	$at += 1 + ord substr $body, $at, 1 if !$server;
	my @exts = unpack '(n n/a)*', substr $body, $at + 2;
	return { type => substr($record, 5, 1), head => substr($body, 0, $at), exts => [ map { [ @exts[2 * $_, 2 * $_ + 1] ] } 0 .. $#exts / 2 ] };
}
sub record_of {
	my ($h) = @_;
	my $exts = join '', map { pack 'n n/a', @$_ } @{ $h->{exts} };
	my $body = $h->{head} . pack 'n/a', $exts;
	return "\x16\x03\x01" . pack 'n/a', $h->{type} . "\0" . pack 'n/a', $body;
}
# An edit of some extensions: by number, a function of its body; undef leaves it out.
sub edit_exts {
	my (%how) = @_;
	return sub {
		my $h = hello($_[0]);
		my @kept;
		for my $ext (@{ $h->{exts} }) {
			my $body = exists $how{ $ext->[0] } ? $how{ $ext->[0] }->($ext->[1]) : $ext->[1];
			push @kept, [ $ext->[0], $body ] if defined $body;
		}
		$h->{exts} = \@kept;
		return record_of($h);
	};
}
use constant { GROUPS => 0x0a, PSK => 0x29, VERSIONS => 0x2b, SHARE => 0x33, TAO => 0xff54 };
sub chose_psk {
	my ($back) = @_;
	return 0 if length $back < 9 || ord $back != 22 || ord(substr $back, 5, 1) != 2;
	return scalar grep { $_->[0] == PSK } @{ hello($back)->{exts} };
}

{
	my $p = proxy(sub { $_[0] });
	mkfifo("$dir/stay", 0600) or die;
	my $c = spawn(hosted($nogroup), qw(client -e), @a, $p->{port}, { stdin => "$dir/stay" });
	open my $stay, '+<', "$dir/stay" or die;
	like($c->wait_for_line(qr/^ok .*/m, 30), qr/reused=1/, 'through somebody who only listens') or diag($c->log);
	ok(wait_for(sub { -s "$p->{record}.back" }, 10) && chose_psk(slurp("$p->{record}.back")), 'the server chose the pre-shared key');
	end_proxy($p);
	my $s = IO::Socket::INET->new("127.0.0.1:$port");
	syswrite $s, slurp("$p->{record}.hello");
	my $back = first_record($s);
	ok(length $back > 9 && ord $back == 22, 'the same ClientHello once more, while the client runs: the server answers');
	ok(!chose_psk($back), 'but does not choose the key');
	close $s;
	log_has(qr/Tao\.Handshake role=server did=refused .*used before/, 'and says why');
	$c->stop;
}

# Through such an edit nobody talks. The client has nothing left that could be made weaker.
sub attacked {
	my ($run, $edit, $name, @args) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $p = proxy($edit);
	refused(say_to($run, @a, @args, $p->{port}), $name);
	end_proxy($p);
}
my $x25519 = sub { pack 'n/a', pack 'n', 0x1d };
my $no_share = sub { "\0\0" };
my $to_x25519 = edit_exts(GROUPS, $x25519, SHARE, $no_share);
my $to_12 = edit_exts(VERSIONS, sub { pack 'C/a', "\3\3" });
my $without = edit_exts(PSK, sub { undef }, TAO, sub { undef });
my @both = (GROUPS, $x25519, SHARE, $no_share, PSK, sub { undef }, TAO, sub { undef });
for my $case ([ 'prefer', $default ], [ 'require', $require ]) {
	my ($mode, $conf) = @$case;
	attacked([ hosted($conf) ], $to_x25519, "$mode: from the group to X25519");
	attacked([ hosted($conf) ], edit_exts(@both), "$mode: the same without the key");
	attacked([ hosted($conf) ], $to_12, "$mode: from TLS 1.3 to 1.2");
	attacked([ hosted($conf) ], $without, "$mode: without the pre-shared key");
	attacked([ hosted($conf) ], edit_exts(TAO, sub { undef }), "$mode: without the extension");
	attacked([ hosted($conf) ], edit_exts(TAO, sub { 'x' }), "$mode: with something in it");
	attacked([ hosted($conf) ], edit_exts(PSK, sub { my $b = $_[0]; substr($b, -1) ^= "\1"; $b }), "$mode: another binder");
	attacked([ hosted($conf) ], edit_exts(PSK, sub { my $b = $_[0]; substr($b, 60) ^= "\1"; $b }), "$mode: another identity");
}
attacked([ hosted($nogroup) ], $to_12, 'group = no: from TLS 1.3 to 1.2');
attacked([ hosted($nogroup) ], $without, 'group = no: without the pre-shared key');
talks(say_to([ hosted($default) ], @a), \%psk, 'the honest are served');

# Nor does it settle for less with a server of the domain that can do no more.
serve($nogroup);
refused(say_to([ hosted($_) ], @a), 'a server without the group: ' . ($_ eq $require ? 'require' : 'prefer'),
	qr/no suitable|handshake failure|has to be a Tao channel/) for $default, $require;
talks(say_to([ hosted($nogroup) ], @a), { %psk, group => 'x25519' }, 'group = no: content without');
serve($default, '-m', 12);
refused(say_to([ hosted($_) ], @a), 'a server without TLS 1.3: ' . ($_ eq $require ? 'require' : 'prefer'),
	qr/protocol version|has to be a Tao channel/) for $default, $require;
talks(say_to([ hosted($nogroup) ], @a), { version => 'TLSv1.2', reused => 0 }, 'group = no: by certificates');
serve($default);

# --- a client with a stack of its own

{
	my $by = sub { say_to([ hosted($bare) ], @policy, @a, '-h', $_[0]) };
	talks($by->('good'), { %psk }, 'a pre-shared key by hand');
	my $t = $by->('noext');
	talks($t, { reused => 0 }, 'without the extension 0xFF54 it is none');
	refused($by->('binder'), 'a binder by another secret');
	serve($default, '-a', $other_ca);
	refused($by->('good'), 'a server that verifies by other authorities');
	refused($by->('noext'), 'also without the extension');
	serve($default);
}

# --- what the application trusts, and virtual hosts

{
	my $notrust = $host->conf('notrust', 'trust = no');
	refused(say_to([ hosted($notrust) ], @a, '-a', $other_ca), 'a client with the wrong trust store');
	log_has(qr/role=client did=refused .*this application does not accept/, 'took no key');
	talks(say_to([ hosted($notrust) ], @a, @policy), { %psk, verify => 0 }, 'with the right one');
	refused(say_to([ hosted($default) ], qw(-n b.test), @policy), 'a name that the certificate has not');
	serve($default, @policy);
	talks(say_to([ hosted($default) ], @a), { %psk }, 'a server that asks clients for certificates');
	like($server->log, qr/^ok .*reused=1 verify=0 .*peer=.*Measured/m, 'sees the program');
	serve($default, '-v', "v.test,$other_ca");
	talks(say_to([ hosted($default) ], @a), { %psk }, 'a server with virtual hosts');
	refused(say_to([ hosted($default) ], qw(-n v.test)), 'one that demands certificates of other authorities');
	log_has(qr/role=server did=refused .*virtual host does not accept/, 'ends it at the last gate');
	log_has(qr/role=client did=refused .*name=v\.test .*the server ended it: alert 40 \(handshake failure\); the log of its host says why/,
		'of which the client\'s record says where it is found');
	serve($default, '-v', "v.test,$state/policy.pem");
	talks(say_to([ hosted($default) ], qw(-n v.test)), { %psk }, 'one that demands the domain\'s');
	serve($default, '-a', $other_ca);
	refused(say_to([ hosted($default) ], @a), 'a server that verifies by other authorities');
	serve($default);
}

# --- a certificate of one principal, and the group of another

{
	run($host->cmd(qw(key new cli --for), $C));
	run($host->cmd(qw(run --prepare), $C));
	my ($cert, $key) = map { s/web/cli/r } @web;
	my @show = ('-c', join ',', spew("$dir/first.pem", slurp($cert)), $key); # for a start without arguments
	my @stale = ('renew = 0', 'psk = no');
	serve($default, @policy);
	talks(say_to([ hosted($host->conf('stale', @stale, 'group = no')) ], @a, @show), { reused => 0 }, 'the certificate of another start, with its key');
	refused(say_to([ hosted($host->conf('stalegroup', @stale)) ], @a, @show), 'but not with the group, which is keyed for this one',
		qr/another program's than the one that the group was keyed for/);
	talks(say_to([ hosted($host->conf('own', 'psk = no')) ], @a, @show), { reused => 0, group => 'tao_x25519' }, 'it is with this one\'s');
	serve($default);
}

# --- applications that set what they like after SSL_CTX_new()

{
	my %own = (groups => [ qw(-g X25519:P-256) ], 'SHA-256 suites' => [ qw(-l TLS_CHACHA20_POLY1305_SHA256) ],
		'SHA-384 suites' => [ qw(-l TLS_AES_256_GCM_SHA384) ], 'an info callback' => [ '-i' ],
		'a verify callback' => [ '-y' ], 'a certificate callback' => [ '-r' ], 'a session id context' => [ '-k' ]);
	for my $case ([ 'prefer', $default ], [ 'require', $require ]) {
		my ($mode, $conf) = @$case;
		for my $what (sort keys %own) {
			serve($conf);
			talks(say_to([ hosted($conf) ], @a, @{ $own{$what} }), { %psk, group => 'tao_x25519' }, "$mode: a client with $what of its own");
			serve($conf, @{ $own{$what} });
			# One that nobody else can judge for it, or of another hash than the key: certificates, by the group.
			my $reused = $what =~ /^(?:a verify callback|SHA-256 suites)$/ ? 0 : 1;
			talks(say_to([ hosted($conf) ], @a), { reused => $reused, group => 'tao_x25519' }, "$mode: a server with $what of its own");
		}
	}
	serve($require, qw(-g X25519));
	refused(say_to([ $C ], @policy, @a), 'a server that requires, with groups of its own: clients without the Tao');
	serve($require, qw(-y));
	refused(say_to([ $C ], @policy, @a), 'with a verify callback that says yes');

	# A foreign server for a name of the domain: whatever the client sets, it is refused.
	serve(undef);
	my @f = ('-a', $foreign[0], @a);
	talks(say_to([ $C ], @f), { reused => 0 }, 'a server that others accept');
	for my $conf ($default, $require, $nogroup) {
		my ($mode) = $conf =~ m{(\w+)\.cnf};
		refused(say_to([ hosted($conf) ], @f, @$_), "$mode: refused, with @$_") for [], [ '-y' ], [ '-i' ], [ qw(-g X25519) ], [ '-p' ], [ '-r' ];
	}
	# What is left to the application, as tao_tls(5) says: it takes the module out.
	refused(say_to([ hosted($default) ], @f, '-Y'), 'a certificate verify callback of its own: the group remains');
	serve($default);
}

# --- resumption after a revocation

{
	my $session = "$dir/session";
	# Who forgets sessions: the server, or the client; the other end is without the module.
	for my $case ([ 'server', $certificate, $off, @policy ], [ 'client', $off, $certificate ]) {
		my ($who, $at_server, $at_client, @trust) = @$case;
		for my $how ([ 'tickets' ], [ 'a session cache', '-o' ]) {
			my ($kind, @cache) = @$how;
			serve($at_server, @policy, '-k', @cache);
			for my $v (qw(13 12)) {
				my @say = (@a, @trust, '-m', $v, '-c', join ',', map { s/web/cli/r } @web);
				unlink $session;
				run($host->cmd(qw(key new cli --for), $C)) if !-e "$state/keys/$</cli.pem";
				run($host->cmd(qw(run --prepare), $C));
				my $t = say_to([ hosted($at_client) ], @say, '-S', $session);
				ok($t->{ok}, "TLS 1.$v, $kind, forgotten by the $who") or show($t);
				my @offer = -s $session ? ('-s', $session) : ();
				talks(say_to([ hosted($at_client) ], @say, @offer), { reused => 0 }, 'nothing resumes');
				my $revoked = $who eq 'server' ? $C : $S;
				$host->tao('revoke', $revoked);
				refused(say_to([ hosted($at_client) ], @say, @offer), "revoked: nor does it let in");
				$host->tao('revoke', $revoked, '--undo');
			}
		}
	}
	# A handshake with a pre-shared key, of a client that keeps whatever it gets.
	serve($default);
	unlink $session;
	talks(say_to([ hosted($bare) ], @policy, @a, qw(-h good -S), $session), \%psk, 'a pre-shared key by hand');
	ok(!-s $session, 'leaves no ticket behind');
	# The control: without the module at either end it would.
	serve($off, @policy, '-k');
	unlink $session;
	my @say = (@a, @policy, '-m', 13, '-c', join ',', map { s/web/cli/r } @web);
	say_to([ hosted($off) ], @say, '-S', $session);
	ok(-s $session, '(a ticket, where there is one)');
	talks(say_to([ hosted($off) ], @say, '-s', $session), { reused => 1 }, 'mode = off at both ends: it resumes');
	serve($default);
}

# --- threads that all come first

serve($default, '-f');
for my $conf ($certificate, $nogroup, $default) {
	my ($mode) = $conf =~ m{(\w+)\.cnf};
	my $r = run(hosted($conf), qw(client -j 16), @a, $port, { timeout => 60 });
	is(scalar(() = $r->{out} =~ /^ok /mg), 16, "$mode: sixteen threads of a client that has just begun") or diag($r->{out}, $r->{err});
}

serve($default);

# --- revoked and unknown programs

refused(say_to([ hosted($default, $X) ], @a), 'a program that no rule lets talk to the server');
$host->tao('revoke', $C);
refused(say_to([ hosted($default) ], @a), 'one that was revoked');
$host->tao('revoke', $C, '--undo');
talks(say_to([ hosted($default) ], @a), \%psk, 'until it is not');

# --- what tao doctor says of it

{
	serve($require);
	my $r = $host->tao('doctor', $server->pid);
	like($r->{out}, qr{^ok .*loaded .*/tao\.so$}m, 'tao doctor PID: the module') or diag($r->{out}, $r->{err});
	like($r->{out}, qr/mode = require: no connection but Tao channels/, 'its mode');
	like($r->{out}, qr/^warning.*nothing is required where tao_tls\.so/m, 'and what that does not do');
	$host->tao('revoke', $S);
	$r = $host->tao('doctor', $server->pid);
	ok($r->{status} == 1 && $r->{out} =~ /^error .*refuses it all keys and channels: the domain has revoked the program/m, 'that it is revoked') or diag($r->{out});
	$host->tao('revoke', $S, '--undo');
	unlike($host->tao('doctor', $server->pid)->{out}, qr/revoked/, 'until it is not');
	serve($bare);
	say_to([ hosted($off) ], @policy, @a); # its first SSL_CTX
	$r = $host->tao('doctor', $server->pid);
	like($r->{out}, qr/^warning .*without tao_tls\.so/m, 'one without it') or diag($r->{out}, $r->{err});
	serve($default);
	my $doctor = sub { run(@_, bin('tao'), 'doctor', "localhost:$port", { timeout => 60 })->{out} };
	like($doctor->(), qr/^error .*does not verify/m, 'tao doctor HOST:PORT, outside');
	my @inside = $host->cmd(qw(run --quiet --openssl-conf), $default, '--');
	$host->tao('trust', $S, '--serves', 'localhost');
	$host->tao('trust', bin('tao'));
	$host->tao('connect', bin('tao'), $S);
	$r = $doctor->(@inside);
	like($r, qr/^ok .*a Tao channel, by a pre-shared key/m, 'as a program: a channel') or diag($r, $server->log);
	like($r, qr/^ok .*group tao_x25519(?:mlkem768)?$/m, 'its group');
	like($r, qr/^ok .*the server is key.*Measured/m, 'and the server\'s program');
	is(run(bin('tao'), 'doctor', 'localhost:' . free_port())->{status}, 1, 'nobody there');
}

# --- require with something missing

{
	my @trusts = (@policy, @a);
	refused(say_to([ 'env', "OPENSSL_CONF=$require", $C ], @trusts), 'require: outside of tao run, with its configuration');
	my $lines = "[ssl]\nsystem_default = system\n[system]\nMinProtocol = TLSv1.3\n1.Groups = brainpoolP512r1\n2.Groups = tao_x25519\n";
	# First of all: OpenSSL reads no further than to a module that it cannot load.
	my $pinned = replaced(slurp($require), qr/^providers = /m, "ssl_conf = ssl\nproviders = ") . "\n$lines";
	talks(say_to([ hosted(spew("$dir/pinned.cnf", $pinned)) ], @a), { %psk, group => 'tao_x25519' }, 'with all, and the group in Groups');
	my $no_tls = replaced($pinned, qr/^path = .*$/m, 'path = /nowhere.so');
	my %missing = ('tao_tls.so' => $no_tls, 'tao.so' => replaced($pinned, qr/^module = .*$/m, 'module = /nowhere.so'),
		'tao_tls.so and tao.so' => replaced($no_tls, qr/^module = .*$/m, 'module = /nowhere.so'),
		'the provider\'s section' => replaced($pinned, qr/^tao = .*$/m, ''));
	for my $what (sort keys %missing) {
		my $t = say_to([ hosted(spew("$dir/missing.cnf", $missing{$what})) ], @trusts);
		# With tao.so the group is there, and keys both ends.
		ok(!$t->{ok} || ($what eq 'tao_tls.so' && $t->{group} eq 'tao_x25519'), "without $what: no ordinary group") or show($t);
	}
	my $unknown = replaced($pinned, qr/^2\.Groups = .*$/m, '2.Groups = tao_x25519:nosuchgroup');
	my $t = say_to([ hosted(spew("$dir/unknown.cnf", $unknown)) ], @trusts);
	ok(!$t->{ok} || $t->{group} eq 'tao_x25519', 'an unknown name in Groups weakens nothing') or show($t);
	refused(say_to([ hosted(spew("$dir/unknown2.cnf", replaced($unknown, qr/^tao_tls = .*$/m, ''))) ], @trusts), 'nor without tao_tls');
}

# --- the host is started again in the midst of handshakes

{
	my $begin = sub {
		mkfifo("$dir/go", 0600) or die;
		my $p = spawn(hosted($_[0]), 'client', '-w', @a, $port, { stdin => "$dir/go" });
		open my $go, '+<', "$dir/go" or die;
		$go->autoflush;
		$p->wait_for_line(qr/^sent$/m, 30);
		unlink "$dir/go";
		return ($p, $go);
	};
	my @waiting = map { [ $begin->($_) ] } $default, $nogroup;
	my $down = $host->tao('down');
	ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], 'the host is started again while clients wait for an answer');
	for my $w (@waiting) {
		my ($p, $go) = @$w;
		print $go "go\n";
		ok(defined $p->wait(60) && $p->log =~ /^(?:ok|failed)/m, 'each comes to an end') or diag($p->log);
	}
	talks(say_to([ hosted($default) ], @a), \%psk, 'by the same server others are served');
}

# --- many identities that nobody made

{
	my $seconds = $ENV{TAO_TEST_ALL} ? 20 : 3;
	my ($keeper) = $host->tao('status', '--json')->{out} =~ /"pid": ?(\d+)/;
	serve($default, qw(-q -j 4));
	my @pids = ($keeper, $server->pid);
	my $kb = sub { slurp("/proc/$_[0]/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : 0 };
	# Processor time of the host and the server, in seconds.
	my $spent = sub {
		my $ns = 0;
		$ns += (eval { slurp($_) } // 0) =~ /^(\d+)/ ? $1 : 0 for map { glob "/proc/$_/task/*/schedstat" } @pids;
		return $ns / 1e9;
	};
	my $lines = sub { scalar(() = $host->tao('log')->{out} =~ /$_[0]/g) };
	my $flood = sub { run(tool('flood'), $port, @_, { timeout => 120 })->{out} };
	my $none = qr/^sent [1-9]\d* taken 0 unanswered 0 rate (\d+)$/;
	talks(say_to([ hosted($default) ], @a), \%psk, 'before any of them');
	my $asked = $lines->(qr/psk-server/);
	# So few that each has its line: more are summed up.
	like($flood->(0.05, 1, 9), $none, 'identities of no format: none is taken');
	is($lines->(qr/psk-server/), $asked, 'nor is the host asked about any');
	like($flood->(0.05, 1), $none, 'identities of nobody: none is taken');
	ok(wait_for(sub { $lines->(qr/psk-server/) > $asked }, 20), 'by the host, which alone can tell');
	my @before = map { $kb->($_) } @pids;
	my %cost; # of one, to both processes
	for my $case ([ honest => sub { scalar(() = run(hosted($default), qw(client -j 16), @a, $port)->{out} =~ /^ok /mg) } ],
		[ bogus => sub { ($flood->(0.5, 1) =~ /^sent (\d+)/)[0] } ]) {
		my $spent_before = $spent->();
		my $n = $case->[1]->();
		$cost{ $case->[0] } = ($spent->() - $spent_before) / ($n || 1);
	}
	ok($cost{bogus} > 0 && $cost{bogus} < $cost{honest} / 5, sprintf 'an identity of nobody costs %.0f us, a connection %.0f us',
		map { $_ * 1e6 } @cost{qw(bogus honest)});
	my ($log_before, $began) = ($lines->(qr/Tao\.Handshake/), time);
	my $p = spawn(tool('flood'), $port, $seconds, 8);
	my @honest;
	push @honest, say_to([ hosted($default) ], @a) while $p->alive && @honest < 10_000;
	ok(defined $p->wait(60) && $p->log =~ $none, 'for some seconds by eight at once: none is taken') or diag($p->log);
	diag("$1 identities a second") if $p->log =~ $none;
	my ($sent) = $p->log =~ /^sent (\d+)/;
	# Nobody is waited for, nor is room taken by what nobody made.
	cmp_ok($sent, '>', 20 * @honest, 'many of them for each connection');
	$sent += $1 while $sent <= $NONCES && $flood->($seconds, 8) =~ /^sent ([1-9]\d*)/;
	cmp_ok($sent, '>', $NONCES, 'more than the host can remember');
	my @starved = grep { !$_->{ok} || !$_->{reused} || !$_->{server}{ok} } @honest;
	ok(@honest > 0 && !@starved, 'all the time the honest are served: ' . @honest . ' connections') or map { show($_) } @starved;
	my @after = map { $kb->($_) } @pids;
	SKIP: {
		skip 'sanitizers keep what was freed', 2 if config('TAO_ASAN');
		cmp_ok($after[$_] - $before[$_], '<', 4000, ('the host', 'the server')[$_] . " has not grown from $before[$_] kB") for 0, 1;
	}
	# The rest is summed up: audit.h has the burst and the rate; the honest have a record at each end.
	my $most = 1000 + 10 * (time - $began + 1) + 2 * @honest;
	cmp_ok($lines->(qr/Tao\.Handshake/) - $log_before, '<=', $most, 'nor has the log, by a line for each');
	talks(say_to([ hosted($default) ], @a), \%psk, 'and afterwards all is well');
}

$server->stop;
done_testing();
