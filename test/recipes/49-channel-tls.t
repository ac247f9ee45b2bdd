# tao_tls.so: Tao channels between openssl's own client and server, which know nothing of them. Each
# mode, each switch; who is refused, and how that looks.
use strict;
use warnings;
use Digest::SHA;
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Test::More;
use TaoTest;

need_programs(qw(openssl));
my $openssl = '/usr/bin/openssl';
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;

# The host's openssl.cnf with lines of a test's own in the module's section.

my $default = $host->conf('default');
# Another program: the same bytes at another path would be the same program.
my $other = "$dir/other";
spew($other, slurp($openssl) . 'x');
chmod 0755, $other;

ok_run([ $host->cmd(qw(key new web --for), $openssl) ], 'a key');
ok_run([ $host->cmd('trust', $openssl, '--serves', 'a.test') ], 'which serves a.test');

# --- a server and clients

my ($server, $port);
sub serve {
	my ($conf, @more) = @_;
	$server->stop if $server;
	$port = free_port();
	$server = spawn($host->cmd(qw(run --quiet --openssl-conf), $conf, '--', $openssl), 's_server', '-accept',
		"127.0.0.1:$port", qw(-cert tao:web -key tao:web -rev), @more);
	$server->wait_for_line(qr/^ACCEPT/m, 20) // diag($server->log);
	return $server;
}

# What s_client says: a hash of what both ends saw.
sub say_to {
	my ($run, @args) = @_;
	my $before = length $server->log;
	my $r = run(@$run, qw(s_client -ign_eof -connect), "127.0.0.1:$port", @args,
		{ stdin => "forward\nCLOSE\n", timeout => 20 });
	my %t = (client => $r->{out} . $r->{err}, data => $r->{out} =~ /drawrof/ ? 1 : 0);
	wait_for(sub { substr($server->log, $before) =~ /CONNECTION (?:CLOSED|FAILURE)|^ERROR/m }, 5);
	$t{server} = substr($server->log, $before);
	$t{psk} = $t{client} =~ /^Reused, TLSv1\.3/m ? 1 : 0;
	$t{group} = $t{server} =~ /groups: (\S+)$/m ? $1 : '';
	$t{group} =~ s/^tao_x25519mlkem768:(tao_x25519)$/$1/; # the one with ML-KEM comes first, where there is that
	$t{cert} = $t{server} =~ /^Peer certificate: (.*)$/m ? $1 : '';
	$t{version} = $t{client} =~ /^(?:New|Reused), (TLSv[\d.]+)/m ? $1 : '';
	return \%t;
}
sub hosted { return [ $host->cmd(qw(run --quiet --openssl-conf), $_[0], '--', $_[1] // $openssl) ] }
sub outside {
	my %env = (%{ preload_env() }, OPENSSL_CONF => $_[0]);
	return [ 'env', (map { "$_=$env{$_}" } sort keys %env), $openssl ];
}
# Without the certificates, which are long.
sub short {
	my ($t) = @_;
	diag(map { "$_\n" } grep { length > 0 && length() < 160 && !/^[A-Za-z0-9+\/=]{40,}$/ }
		split /\n/, $t->{client} . "--- server\n" . $t->{server});
}
my @a = qw(-servername a.test -verify_hostname a.test -verify_return_error);

sub is_talk {
	my ($t, $want, $name) = @_;
	my %got = map { $_ => $t->{$_} } keys %$want;
	is_deeply(\%got, $want, $name) or short($t);
}
sub refused {
	my ($t, $like, $name) = @_;
	ok(!$t->{data}, $name) or short($t);
	like($t->{client} . $t->{server}, $like, 'and a sentence says why');
}
sub hash_of { return Digest::SHA->new(256)->addfile($_[0])->hexdigest }
my $PROGRAM = qr/Measured\(/;

# --- no rule of who may talk to whom: certificates decide

serve($default);
is_talk(say_to(hosted($default), @a), { data => 1, psk => 0 },
	'without Connect rules: a certificate handshake, and the name is trusted with no CA file');
ok_run([ $host->cmd('connect', $openssl, $openssl) ], 'openssl may talk to openssl');

# --- prefer: the default

serve($default);
{
	my $t = say_to(hosted($default), @a);
	is_talk($t, { data => 1, psk => 1, version => 'TLSv1.3', group => 'tao_x25519' }, 'prefer: a PSK, and the group');
	like($t->{cert}, $PROGRAM, 'the server is shown the client\'s program');
	like($t->{client}, qr/^subject=.*Measured\(.*CN = a\.test$|^subject=.*Measured\(/m, 'and the client the server\'s');
	like($t->{client}, qr/^Verify return code: 0/m, 'verified');
	$t = say_to(hosted($default), qw(-servername a.test));
	is_talk($t, { data => 1, psk => 1 }, 'also of a client that does not verify');
	$t = say_to(hosted($default), qw(-servername b.test));
	is_talk($t, { data => 1, psk => 0 }, 'a name that policy does not know is left alone');
	unlike($t->{group}, qr/tao/, 'so is its group');
	$t = say_to(hosted($default), qw(-noservername));
	is_talk($t, { data => 1, psk => 0 }, 'and no name at all');
	$t = say_to([ $openssl ], '-CAfile', "$state/policy.pem", @a);
	is_talk($t, { data => 1, psk => 0, cert => '' }, 'prefer: a server takes clients without the Tao');
	unlike($t->{group}, qr/tao/, 'with their groups');
	$t = say_to(hosted($default), qw(-servername a.test -verify_hostname b.test -verify_return_error));
	ok(!$t->{psk} && !$t->{data}, 'who verifies another name than it asks for gets no PSK, and refuses') or short($t);
	$t = say_to(hosted($default), qw(-servername b.test -verify_hostname a.test -verify_return_error));
	is_talk($t, { data => 1, psk => 0, group => 'tao_x25519' }, 'nor is there one if policy knows the name that is verified: by the group');
}

# --- what the log has

{
	my @log = grep { /Tao\.Handshake/ } split /\n/, $host->tao('log')->{out};
	ok((grep { /role=client did=completed mode=psk .*group=tao_x25519\S* .*name=a\.test peer=key.*Measured/ } @log), 'a record of the client');
	ok((grep { /role=server did=completed mode=psk .*group=tao_x25519\S* .*name=a\.test peer=key.*Measured/ } @log), 'and of the server');
	ok((grep { /role=server did=completed mode=none / } @log), 'and of clients without the Tao');
}

# --- switches

{
	my $t = say_to(hosted($host->conf('nopsk', 'psk = no')), @a);
	is_talk($t, { data => 1, psk => 0, group => 'tao_x25519' }, 'psk = no: the group with certificates');
	like($t->{client}, qr/^subject=.*Measured\(/m, 'the client sees the server\'s program');
	$t = say_to(hosted($host->conf('nogroup', 'group = no')), @a);
	is_talk($t, { data => 1, psk => 1 }, 'group = no: the PSK');
	unlike($t->{group}, qr/tao/, 'with an ordinary group');
	$t = say_to(hosted($host->conf('certificate', 'mode = certificate')), @a);
	is_talk($t, { data => 1, psk => 0 }, 'mode = certificate');
	like($t->{client}, qr/^subject=.*Measured\(/m, 'with the server\'s program');
	my @log = grep { /Tao\.Handshake role=client did=completed .*name=a\.test peer=key.*Measured/ } split /\n/, $host->tao('log')->{out};
	for my $want ('mode=group .*group=tao_x25519', 'mode=psk .*group=x25519', 'mode=certificate .*group=x25519') {
		ok((grep { /$want/i } @log), "a record: $want");
	}
	unlike($t->{group}, qr/tao/, 'with an ordinary group');
	$t = say_to(hosted($host->conf('off', 'mode = off')), @a);
	ok(!$t->{data}, 'mode = off: the policy certificate is not trusted') or short($t);
	$t = say_to(hosted($host->conf('off', 'mode = off')), '-CAfile', "$state/policy.pem", @a);
	is_talk($t, { data => 1, psk => 0, cert => '' }, 'but the application may');
	$t = say_to(hosted($host->conf('notrust', 'mode = certificate', 'trust = no')), @a);
	ok(!$t->{data}, 'trust = no: neither here');
	$t = say_to(hosted($host->conf('bypeer', 'mode = off', 'peers = p', '[p]', 'a.test = prefer')), @a);
	is_talk($t, { data => 1, psk => 1 }, 'a mode of one name');
	$t = say_to(hosted($host->conf('byprogram', 'mode = off', 'programs = q', '[q]', 'openssl = own', '[own]', 'mode = prefer')), @a);
	is_talk($t, { data => 1, psk => 1 }, 'settings of one program');
	$t = say_to(hosted($host->conf('wrong', 'mode = maybe')), '-CAfile', "$state/policy.pem", @a);
	refused($t, qr/settings of tao_tls are wrong: see 'tao conf check'/, 'a wrong setting: no connection at all');
}

# --- require

{
	my $require = $host->conf('require', 'mode = require');
	is_talk(say_to(hosted($require), @a), { data => 1, psk => 1, group => 'tao_x25519' }, 'require, both can');
	is_talk(say_to(hosted($require), '-CAfile', "$state/policy.pem", qw(-servername b.test)),
		{ data => 1, psk => 0, group => 'tao_x25519' }, 'to a name that policy does not know: the group');
	refused(say_to(outside($require), '-CAfile', "$state/policy.pem", @a), qr/not started with 'tao run'/,
		'require, outside of tao run with a configuration that was stolen');
	serve($require);
	is_talk(say_to(hosted($default), @a), { data => 1, psk => 1, group => 'tao_x25519' }, 'a server that requires');
	refused(say_to([ $openssl ], '-CAfile', "$state/policy.pem", @a), qr/handshake failure|no suitable|protocol version/,
		'refuses clients without the Tao');
	refused(say_to([ $openssl ], '-CAfile', "$state/policy.pem", '-tls1_2', @a), qr/protocol version|handshake failure/,
		'and those that want TLS 1.2');
		my $none = spew("$dir/none.cnf", slurp($require) =~ s/^module = .*$/module = \/nowhere.so/mr);
	refused(say_to(outside($none), '-CAfile', "$state/policy.pem", @a), qr/the group tao_x25519 is not there: is tao\.so loaded/,
		'require without tao.so: nothing is negotiated');
	serve($default);
}

# --- a server with certificates alone

{
	my $certificate = $host->conf('certificate', 'mode = certificate');
	serve($certificate);
	my $t = say_to(hosted($certificate), @a);
	is_talk($t, { data => 1, psk => 0 }, 'mode = certificate at both ends');
	unlike($t->{group}, qr/tao/, 'with an ordinary group');
	refused(say_to(hosted($default), @a), qr/the server ended it.*is it started by 'tao run', in mode prefer or require/,
		'such a server takes neither group nor PSK from a client that wants them');
	serve($default);
}

# --- policy

{
	my $t = say_to(hosted($default, $other), @a);
	refused($t, qr/policy refuses|application verification|handshake failure|illegal parameter|internal error/, 'a program that no Connect rule names');
	ok((grep { /Tao\.Handshake role=client did=refused .*name=a\.test/ } split /\n/, $host->tao('log')->{out}), 'its record') or diag($host->tao('log')->{out});
	$t = say_to(hosted($host->conf('certificate', 'mode = certificate'), $other), @a);
	refused($t, qr/policy refuses.*[Cc]onnect/s, 'nor with certificates');
	my @no = grep { /no rule lets/ } split /\n/, $host->tao('log')->{out};
	like((grep { /Tao\.Handshake role=client did=refused .*group=x25519\S* /i } @no)[-1], qr/ peer=key\S*Measured/, 'the record names whom it refused');
	say_to(hosted("$dir/nopsk.cnf", $other), @a);
	@no = grep { /Tao\.GroupServer.*: denied/ } split /\n/, $host->tao('log')->{out};
	like($no[-1] // 'none', qr/ peer=key\S*Measured\(\[@{[ hash_of($other) ]}\]/, 'as does that of the group');
	refused(say_to(hosted("$dir/$_.cnf", $other), @a), qr/policy refuses.*[Cc]onnect/s, "nor with $_") for qw(nopsk nogroup);
	$t = say_to(hosted($host->conf('certificate', 'mode = certificate'), $other), qw(-servername a.test));
	refused($t, qr/application verification/, 'nor if it does not verify');
	ok_run([ $host->cmd('connect', $other, $openssl) ], 'a rule for it');
	is_talk(say_to(hosted($default, $other), @a), { data => 1, psk => 1 }, 'then it may');
	ok_run([ $host->cmd('revoke', $other) ], 'revoked');
	for my $kind (qw(default nopsk nogroup certificate)) {
		refused(say_to(hosted("$dir/$kind.cnf", $other), @a), qr/the domain has revoked the program/, "it may no longer: $kind");
	}
	ok_run([ $host->cmd('revoke', $other, '--undo') ], 'until that is undone');
	is_talk(say_to(hosted($default, $other), @a), { data => 1, psk => 1 }, 'then it may again');
}

# --- another server for a name of the domain

{
	$server->stop;
	ok_run([ $openssl, qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=a.test
		-addext subjectAltName=DNS:a.test -keyout), "$dir/f.key", '-out', "$dir/f.crt" ], 'a certificate of another CA');
	$port = free_port();
	$server = spawn($openssl, 's_server', '-accept', "127.0.0.1:$port", '-cert', "$dir/f.crt", '-key', "$dir/f.key", '-rev');
	$server->wait_for_line(qr/^ACCEPT/m, 20);
	my @f = ('-CAfile', "$dir/f.crt", @a);
	is_talk(say_to([ $openssl ], @f), { data => 1 }, 'which others accept');
	refused(say_to(hosted($default), @f), qr/handshake failure|no suitable/, 'a name of the domain is required to be a Tao channel');
	refused(say_to(hosted($host->conf('nogroup', 'group = no')), @f), qr/programs of the domain|policy refuses/, 'and to be served by its programs');
	refused(say_to(hosted($host->conf('nogroup', 'group = no')), qw(-servername a.test)), qr/programs of the domain|policy refuses/,
		'also for a client that does not verify');
	is_talk(say_to(hosted($default), '-CAfile', "$dir/f.crt", qw(-servername b.test)), { data => 1 }, 'under another name it is');
}

# --- a server that demands, clients without certificates

{
	my $demand = $host->conf('demand', 'demand = yes', 'psk = no');
	serve($demand);
	my $t = say_to(hosted($host->conf('certificate', 'mode = certificate')), @a);
	is_talk($t, { data => 1, psk => 0 }, 'demand: a client that was given no certificate');
	like($t->{cert}, $PROGRAM, 'shows its own');
	refused(say_to(hosted($host->conf('noidentity', 'mode = certificate', 'identity = no')), @a), qr/certificate required|handshake failure/, 'identity = no: none');
	refused(say_to([ $openssl ], '-CAfile', "$state/policy.pem", @a), qr/certificate required|handshake failure/, 'nor has a client outside');
	refused(say_to([ $openssl ], '-CAfile', "$state/policy.pem", '-cert', "$dir/f.crt", '-key', "$dir/f.key", @a),
		qr/programs of its domain|handshake failure/, 'one of another CA is refused');
	is_talk(say_to(hosted($host->conf('certificate', 'mode = certificate')), @a, '-tls1_2'), { data => 1, version => 'TLSv1.2' }, 'TLS 1.2 as well');
	$t = say_to(hosted($host->conf('nopsk2', 'psk = no')), @a);
	is_talk($t, { data => 1, group => 'tao_x25519' }, 'with the group: certificate and group are one principal\'s');
}

# --- a thief: a process outside of tao run, with the configuration, the sealed key and the certificate

{
	my $thief = "$dir/thief";
	mkdir $thief;
	my %stolen = map { $_ => spew("$thief/$_.pem", slurp((glob "$state/$_/*/web.pem")[0])) } qw(certs keys);
	my @own = ('-cert', $stolen{certs}, '-key', $stolen{keys});
	my $outside = sub { return outside(spew("$thief/$_[0].cnf", slurp("$dir/$_[0].cnf"))) };
	$host->conf($_->[0], @{ $_->[1] }) for [ 'plainly', [ 'mode = certificate', 'renew = 0', 'identity = no' ] ], [ 'prefer', [] ], [ 'require', [ 'mode = require' ] ];
	my $why = qr/not started with 'tao run'/;
	my %shown = (plainly => \@own, prefer => [], require => []); # with a Tao channel the host has certificates for it
	serve($host->conf('demand', 'demand = yes'));
	for my $how (qw(plainly prefer require)) {
		is_talk(say_to(hosted("$dir/$how.cnf"), @{ $shown{$how} }, @a), { data => 1 }, "$how: under tao run that is enough");
		refused(say_to($outside->($how), '-CAfile', "$state/policy.pem", @own, @a), $why, "$how: outside of it, not as client");
	}
	for my $how (qw(plainly prefer require)) {
		$server->stop;
		$port = free_port();
		$server = spawn(@{ $outside->($how) }, 's_server', '-accept', "127.0.0.1:$port", @own, '-rev');
		$server->wait_for_line(qr/^ACCEPT/m, 20) // diag($server->log);
		refused(say_to(hosted($default), @a), $how eq 'plainly' ? qr/no suitable/ : $why, "$how: nor as server");
		refused(say_to([ $openssl ], '-CAfile', "$state/policy.pem", @a), $how eq 'require' ? qr/no suitable/ : $why, 'nor to those who know nothing of the Tao');
	}
	$server->stop;
}

# --- a certificate of one principal, and the group of another

{
	my $stale = $host->conf('stale', 'renew = 0', 'psk = no');
	serve($stale);
	my $cert = "$dir/first.pem";
	spew($cert, slurp((glob "$state/certs/*/web.pem")[0]));
	my @own = ('-cert', $cert, '-key', (glob "$state/keys/*/web.pem")[0]);
	$server->stop;
	# The same program with other arguments: another principal, which may use the same key.
	$port = free_port();
	$server = spawn($host->cmd(qw(run --quiet --openssl-conf), $stale, '--', $openssl), 's_server', '-accept',
		"127.0.0.1:$port", @own, '-rev');
	$server->wait_for_line(qr/^ACCEPT/m, 20) // diag($server->log);
	my $ordinary = $host->conf('ordinary', 'group = no', 'psk = no');
	is_talk(say_to(hosted($ordinary), @a), { data => 1, psk => 0 }, 'the certificate of an earlier start, with its key, is good');
	refused(say_to(hosted($host->conf('nopsk', 'psk = no')), @a), qr/another program's than the one that the group was keyed for/,
		'but not with the group, which is keyed for this one');
}

# --- no session is resumed

{
	serve($default);
	my $s = "$dir/session";
	my @c = ([ $openssl ], '-CAfile', "$state/policy.pem", @a);
	unlink $s;
	is_talk(say_to(hosted($host->conf('nopsk', 'psk = no')), @a, '-sess_out', $s), { data => 1, group => 'tao_x25519' }, 'a channel');
	ok(!-s $s, 'a Tao channel leaves no session behind');
	serve($host->conf('demand', 'demand = yes', 'psk = no'));
	my $cert = $host->conf('certificate', 'mode = certificate');
	for my $v (qw(-tls1_3 -tls1_2)) {
		unlink $s;
		is_talk(say_to(hosted($cert), @a, $v, '-sess_out', $s), { data => 1 }, "$v: by the peer's certificate");
		my $t = say_to(hosted($cert), @a, $v, -s $s ? ('-sess_in', $s) : ());
		ok($t->{data} && $t->{client} !~ /^Reused/m, 'nor does that resume') or short($t);
	}
}

# --- TLS 1.2

SKIP: {
	my $twelve = $host->conf('twelve', 'tls12_psk = yes', 'group = no');
	serve($twelve);
	my $t = say_to(hosted($twelve), '-tls1_2', @a);
	is_talk($t, { data => 1, version => 'TLSv1.2' }, 'a PSK with TLS 1.2');
	like($t->{client}, qr/Cipher is (?:ECDHE-PSK-CHACHA20|DHE-PSK-AES)/, 'in a suite with forward secrecy');
	$t = say_to(hosted($host->conf('nogroup', 'group = no')), '-tls1_2', @a);
	like($t->{client}, qr/Cipher is ECDHE-ECDSA/, 'which is not offered unless configured');
	is($t->{data}, 1, 'certificates decide then');
}

# --- ends that switched TLS 1.3 off

{
	my $off = $host->conf('off', 'mode = off');
	my $twelve = $host->conf('twelve', 'tls12_psk = yes', 'group = no');
	serve($default);
	refused(say_to(hosted($default), @a, '-no_tls1_3'), qr/configuration does not allow TLS 1\.3/, 'a client without TLS 1.3');
	serve($default, '-no_tls1_3');
	refused(say_to(hosted($default), @a), qr/alert 70 \(protocol version\); its configuration has to allow TLS 1\.3/, 'a server without TLS 1.3');
	is_talk(say_to(hosted($off), '-CAfile', "$state/policy.pem", qw(-groups X25519:tao_x25519:P-256), @a), { data => 1, version => 'TLSv1.2' },
		'but a client that offers the group among others finds one for TLS 1.2');
	serve($twelve, '-no_tls1_3');
	my $t = say_to(hosted($twelve), @a);
	is_talk($t, { data => 1, version => 'TLSv1.2' }, 'a client that offered a PSK for TLS 1.3');
	like($t->{client}, qr/Cipher is (?:ECDHE-PSK-CHACHA20|DHE-PSK-AES)/, 'gets one for TLS 1.2');
}

# --- DTLS 1.2

{
	my $twelve = $host->conf('twelve', 'tls12_psk = yes', 'group = no');
	$server->stop;
	$port = free_port();
	$server = spawn($host->cmd(qw(run --quiet --openssl-conf), $twelve, '--', $openssl), 's_server', '-dtls1_2', '-accept',
		"127.0.0.1:$port", qw(-cert tao:web -key tao:web), { stdin => spew("$dir/reply", "from-the-server\n") });
	$server->wait_for_line(qr/^ACCEPT/m, 20) // diag($server->log);
	my $client = spawn(@{ hosted($twelve) }, qw(s_client -dtls1_2 -quiet -connect), "127.0.0.1:$port", @a, { stdin => spew("$dir/request", "forward\n") });
	ok($client->wait_for_line(qr/^from-the-server$/m, 20), 'DTLS 1.2') or diag($client->log);
	my @records;
	wait_for(sub {
		@records = grep { /did=completed mode=psk tls=65277 .*cipher=(?:ECDHE-PSK-CHACHA20|DHE-PSK-AES)/ }
		    split /\n/, $host->tao('log')->{out};
		return @records == 2;
	});
	$client->stop;
	is(scalar(grep { /role=client/ } @records), 1, 'by a PSK');
	is(scalar(grep { /role=server/ } @records), 1, 'at both ends');
}

# Hands datagrams on, both ways, and looks at them: whether the largest is as small as it should be, whether the
# client (c) or the server (s) sent a part of a handshake message, and whether the server asked for a cookie.
sub relay {
	my ($to) = @_;
	my $in = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1') or die;
	my $out = IO::Socket::INET->new(Proto => 'udp', PeerAddr => "127.0.0.1:$to") or die;
	my %relay = (port => $in->sockport, record => "$dir/datagrams");
	spew($relay{record}, '');
	$relay{pid} = fork // die;
	return \%relay if $relay{pid};
	my ($select, $client) = IO::Select->new($in, $out);
	open my $record, '>', $relay{record} or POSIX::_exit(1);
	$record->autoflush;
	while (1) {
		for my $from ($select->can_read) {
			my $peer = $from->recv(my $bytes, 65536) // next;
			$client = $peer if $from == $in;
			print $record $from == $in ? 'c' : 's', ' ', unpack('H*', $bytes), "\n";
			$from == $in ? $out->send($bytes) : $in->send($bytes, 0, $client);
		}
	}
}
sub end_relay {
	my ($relay) = @_;
	kill 'KILL', $relay->{pid};
	waitpid $relay->{pid}, 0;
	my $largest = 0;
	@$relay{qw(c s cookie)} = (0, 0, 0);
	for (split /\n/, slurp($relay->{record})) {
		my ($who, $bytes) = /^([cs]) ([0-9a-f]+)$/ or next;
		$bytes = pack 'H*', $bytes;
		$largest = length $bytes if length $bytes > $largest;
		while (length $bytes > 13) { # records: type, version, epoch, number, length
			my ($type, $epoch, $n) = unpack 'C x2 n x6 n', $bytes;
			my ($message, $whole, $at, $part) = map { hex unpack 'H*', $_ } unpack 'x13 a a3 x2 a3 a3', $bytes . "\0" x 12;
			$relay->{cookie} = 1 if $type == 22 && $epoch == 0 && $message == 3; # HelloVerifyRequest
			$relay->{$who} = 1 if $type == 22 && $epoch == 0 && $part > 0 && $part < $whole;
			substr($bytes, 0, 13 + $n) = '';
		}
	}
	$relay->{largest} = $largest > 0 && $largest <= 256 ? 1 : $largest;
}

# Each mode and refusal with DTLS 1.2. The server ends with its input, after its first client.
{
	my $twelve = $host->conf('twelve', 'tls12_psk = yes', 'group = no');
	my $require12 = $host->conf('require12', 'mode = require', 'tls12_psk = yes');
	my $certificate = $host->conf('certificate', 'mode = certificate');
	my $records = sub { grep { /Tao\.Handshake .*tls=65277/ } split /\n/, $host->tao('log')->{out} };
	my $talk = sub {
		my ($at_server, $run, @more) = @_;
		my @before = $records->();
		$server->stop;
		$port = free_port();
		my @key = $at_server eq 'foreign' ? ('-cert', "$dir/f.crt", '-key', "$dir/f.key") : qw(-cert tao:web -key tao:web);
		my @s = $at_server eq 'foreign' ? ($openssl) : @{ hosted($at_server) };
		my @listen = grep { $_ eq '-listen' } @more;
		my @small = grep { $_ eq '-small' } @more;
		my @mtu = @small ? qw(-mtu 256) : ();
		$server = spawn(@s, qw(s_server -dtls1_2 -accept), "127.0.0.1:$port", @key, @listen, @mtu, { stdin => spew("$dir/reply", "from-the-server\n") });
		$server->wait_for_line(qr/^ACCEPT/m, 20) // diag($server->log);
		my $relay = relay($port);
		# It may not learn that the server has ended: a datagram says so only once.
		my $client = spawn(@$run, qw(s_client -dtls1_2 -quiet -connect), "127.0.0.1:$relay->{port}", @mtu,
			(grep { !/^-(?:listen|silent|small)$/ } @more), { stdin => spew("$dir/request", "forward\n") });
		wait_for(sub { !$client->alive || $client->log =~ /^from-the-server$/m || $server->log =~ /^ERROR/m }, 10);
		my %t = (data => $client->log =~ /^from-the-server$/m ? 1 : 0);
		my @hosted = map { $_->[1][0] eq $openssl ? () : $_->[0] } [ client => $run ], [ server => \@s ];
		wait_for(sub { my @all = $records->(); @all - @before >= @hosted || $more[-1] eq '-silent' }, 5);
		$client->stop;
		end_relay($relay);
		%t = (%t, client => $client->log, server => $server->log, %$relay);
		my @all = $records->();
		my @new = @all[scalar(@before) .. $#all];
		$t{why} = join "\n", map { /reason=(.*)/ } @new;
		for my $role (qw(client server)) {
			my ($record) = grep { /role=$role/ } @new;
			$t{$role . 's'} = $record && $record =~ /did=completed mode=(\S+)/ ? $1 : $record && $record =~ /did=refused/ ? 'refused' : '';
		}
		return \%t;
	};
	my $is_refused = sub {
		my ($t, $who, $why, $name) = @_;
		is_talk($t, { data => 0, $who . 's' => 'refused' }, $name);
		like($t->{why}, $why, "by the $who, for that reason");
	};
	is_talk($talk->($twelve, hosted($twelve), @a), { data => 1, clients => 'psk', servers => 'psk' }, 'DTLS 1.2, prefer: a PSK');
	is_talk($talk->($twelve, hosted($twelve), @a, '-listen'), { data => 1, clients => 'psk', servers => 'psk', cookie => 1 }, 'after a cookie exchange');
	is_talk($talk->($twelve, hosted($twelve), @a, '-small'), { data => 1, clients => 'psk', largest => 1, c => 1 }, 'in small datagrams, with a first message in fragments');
	is_talk($talk->($default, hosted($twelve), @a), { data => 1, clients => 'certificate' }, 'a server that has it off: certificates');
	is_talk($talk->($default, hosted($default), @a, '-small'), { data => 1, clients => 'certificate', largest => 1, c => 1, s => 1 }, 'these in fragments, from both sides');
	is_talk($talk->($twelve, hosted($certificate), @a), { data => 1, clients => 'certificate' }, 'mode = certificate');
	is_talk($talk->($twelve, [ $openssl ], '-CAfile', "$state/policy.pem", @a), { data => 1, servers => 'none' }, 'prefer: a client without the Tao');
	$is_refused->($talk->('foreign', hosted($twelve), '-CAfile', "$dir/f.crt", @a), 'client', qr/none of theirs/, 'a stranger under a name of the domain');
	$is_refused->($talk->($twelve, hosted($require12), @a), 'client', qr/which DTLS cannot be/, 'a client that requires: not with DTLS');
	$is_refused->($talk->($require12, hosted($twelve), @a, '-silent'), 'server', qr/which DTLS cannot be/, 'nor does such a server');
	ok_run([ $host->cmd('connect', $other, $openssl, '--remove') ], 'a program that no rule lets talk to it');
	$is_refused->($talk->($twelve, hosted($twelve, $other), @a), 'client', qr/no rule lets this client/, 'is refused');
	$is_refused->($talk->($twelve, hosted($certificate, $other), @a), 'client', qr/no rule lets this client/, 'with certificates as well');
	ok_run([ $host->cmd('connect', $other, $openssl) ], 'with a rule');
	is_talk($talk->($twelve, hosted($twelve, $other), @a), { data => 1, clients => 'psk', servers => 'psk' }, 'it is served');
	ok_run([ $host->cmd('revoke', $other) ], 'revoked');
	$is_refused->($talk->($twelve, hosted($twelve, $other), @a), 'client', qr/has revoked the program/, 'it is not');
	ok_run([ $host->cmd('revoke', $other, '--undo') ], 'undone');
}

# --- the host ends and comes back

{
	serve($default);
	is_talk(say_to(hosted($default), @a), { data => 1, psk => 1 }, 'before');
	$host->tao('down');
	ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], 'the host ends and starts');
	is_talk(say_to(hosted($default), @a), { data => 1, psk => 1 }, 'after a restart of the host, by the same server');
}

$server->stop;
done_testing();
