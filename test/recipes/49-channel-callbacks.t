# Tao channels of applications that set callbacks of their own where tao_tls.so has its: whatever they set, policy
# holds, each handshake has one record, and their own callbacks are called as without the Tao.
use strict;
use warnings;

use Test::More;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;

sub program {
	my ($name) = @_;
	spew("$dir/$name", slurp(tool('tlspeer')) . $name);
	chmod 0755, "$dir/$name";
	return "$dir/$name";
}
my $default = $host->conf('default');
my $nopsk = $host->conf('nopsk', 'psk = no');
my $certificate = $host->conf('certificate', 'psk = no', 'group = no');
my $require = $host->conf('require', 'mode = require');
my $demand = $host->conf('demand', 'demand = yes');
my $twelve = $host->conf('twelve', 'tls12_psk = yes', 'group = no');
my ($S, $C, $X) = map { program($_) } qw(server client stranger);
ok_run([ $host->cmd(qw(key new web --for), $S) ], 'a key');
ok_run([ $host->cmd('trust', $S, '--serves', 'a.test') ], 'of a server');
ok_run([ $host->cmd('trust', $_) ], 'another program') for $C, $X;
ok_run([ $host->cmd('connect', $C, $S) ], 'the first of them may talk to the server');
ok_run([ $host->cmd(qw(run --prepare), $S) ], 'files for the server');
my @web = map { "$state/$_/$</web.pem" } qw(certs keys);
my @policy = ('-a', "$state/policy.pem");
my @a = qw(-n a.test);
ok_run([ $openssl, qw(req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=a.test -addext subjectAltName=DNS:a.test),
	'-keyout', "$dir/f.key", '-out', "$dir/f.crt" ], 'a stranger');
my @foreign = ("$dir/f.crt", "$dir/f.key");

# --- servers and clients

my ($server, $port);
sub hosted { return $host->cmd(qw(run --quiet --openssl-conf), $_[0], '--', $_[1]) }
sub serve {
	my ($conf, @more) = @_;
	return serve_with($conf, defined $conf ? \@web : \@foreign, @more);
}
sub serve_with {
	my ($conf, $files, @more) = @_;
	$server->stop if $server;
	$server = spawn(defined $conf ? hosted($conf, $S) : $S, 'server', @more, @$files);
	$port = $server->wait_for_line(qr/^port (\d+)$/m, 30) // diag($server->log);
}
# The line of the client, what its callbacks were told, what the log has of this connection, and what the server said.
my $lines = 0;
sub records {
	my @all = grep { /Tao\.Handshake/ } split /\n/, $host->tao('log')->{out};
	return @all[$lines .. $#all];
}
sub client {
	my ($run, $want, @args) = @_;
	$lines = 0;
	$lines = () = records();
	my $before = length $server->log;
	my $r = run(@$run, 'client', @args, $port, { timeout => 30 });
	my ($line) = $r->{out} =~ /^((?:ok|failed)\b.*)$/m;
	my ($told) = $r->{out} =~ /^told (.*)$/m;
	wait_for(sub { (() = records()) >= $want }, 10);
	wait_for(sub { substr($server->log, $before) =~ /^(?:ok|failed).*\n/m }, 5);
	return { line => $line // "$r->{out}$r->{err}", told => $told // '', out => $r->{out}, records => [ map { s/.*Tao\.Handshake//r } records() ],
		server => substr($server->log, $before) };
}
sub show { my ($t) = @_; diag(join "\n", "client: $t->{line} $t->{told}", "server: $t->{server}", @{ $t->{records} }); return 0 }
sub is_so {
	my ($t, $name, $line, @records) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @left = @{ $t->{records} };
	my @missing;
	for my $is (@records) {
		my ($at) = grep { $left[$_] =~ $is } 0 .. $#left;
		defined $at ? splice(@left, $at, 1) : push @missing, $is;
	}
	return ok($t->{line} =~ $line && !@missing && !@left, $name) || show($t) || diag("no such record: @missing\nother records: @left");
}
sub records_of { my ($rest) = @_; return map { qr/role=$_ did=$rest/ } qw(client server) }
my $once = 'start=1 done=1 alert=0';

my %sets = (
	'no callback' => [],
	'an info callback' => [ '-i' ],
	'an info callback in each SSL' => [ '-I' ],
	'one that calls the one before' => [ '-X' ],
	'a security callback' => [ '-z' ],
	'an extension debug callback' => [ '-d' ],
	'all of them' => [ qw(-i -I -d) ],
);
my %blind = ('a security and an info callback' => [ qw(-z -i) ], 'a security callback, and an info callback in each SSL' => [ qw(-z -I) ]);
sub is_info { return grep { /^-[iIX]$/ } @_ }

# --- records, and their own callbacks

for my $what (sort keys %sets, keys %blind) {
	my @set = @{ $sets{$what} // $blind{$what} };
	my $told = is_info(@set) ? $once : '';
	serve($default);
	my $t = client([ hosted($default, $C) ], 2, @a, @policy, @set);
	is_so($t, "$what in a client: one record at each end", qr/^ok .*group=tao_x25519\S* reused=1/i, records_of('completed mode=psk'));
	is($t->{told}, $told, 'and its info callback was called as it should be');
	like($t->{out}, qr/^seen$/m, 'and the other one') if grep { $_ eq '-d' } @set;
	$t = client([ hosted($default, $X) ], 2, @a, '-a', $foreign[0], @set);
	is_so($t, 'a program that policy does not let connect: refused', qr/^failed/, qr/role=client did=refused/, qr/role=server did=refused/);
	serve(undef);
	$t = client([ hosted($default, $C) ], 1, @a, '-a', $foreign[0], @set);
	is_so($t, 'a stranger: refused', qr/^failed/, qr/role=client did=refused/);

	serve($nopsk, @set);
	$t = client([ hosted($nopsk, $C) ], 2, @a, @policy);
	is_so($t, "$what in a server: one record at each end", qr/^ok .*group=tao_x25519\S* reused=0/i, records_of('completed mode=group'));
	like($t->{server}, qr/^told $told$/m, 'and its info callback was called as it should be') if $told;
	like($t->{server}, qr/^seen$/m, 'and the other one') if grep { $_ eq '-d' } @set;
	serve($demand, @set);
	$t = client([ $C ], 1, @a, @policy);
	like(join("\n", @{ $t->{records} }), qr/\A[^\n]*role=server did=refused[^\n]*\z/, 'a client without the Tao: refused, with one record') or show($t);
}

# --- what has to be seen at the very beginning

for my $what (sort keys %sets) {
	my @set = @{ $sets{$what} };
	my $session = "$dir/session";
	unlink $session;
	serve($certificate);
	client([ hosted($certificate, $C) ], 2, @a, @policy, @set, '-S', $session);
	serve(undef);
	client([ $C ], 0, @a, '-a', $foreign[0], '-S', $session);
	ok(-s $session, 'a session of a stranger\'s server');
	like(client([ $C ], 0, @a, '-a', $foreign[0], '-s', $session)->{line}, qr/^ok .*reused=1/, 'which others take up again');
	my $t = client([ hosted($certificate, $C) ], 1, @a, '-a', $foreign[0], @set, '-s', $session);
	is_so($t, "$what in a client: that session is not taken up", qr/^failed/, qr/role=client did=refused/);

	serve($default, @set);
	$t = client([ hosted($nopsk, $C) ], 2, @a, @policy);
	is_so($t, "$what in a server: the group for programs", qr/^ok .*group=tao_x25519/i, records_of('completed mode=group'));
	like(client([ $C ], 1, @a, @policy)->{line}, qr/^ok .*group=(?!tao)/i, 'and what it had for others');

	my @own = qw(-psk 00112233445566778899aabbccddeeff -ciphersuites TLS_AES_128_GCM_SHA256);
	my $by_key = sub {
		my $r = run($openssl, qw(s_client -connect), "127.0.0.1:$port", @own, { stdin => "x\n", timeout => 20 });
		return $r->{out} =~ /^Reused/m && $r->{out} !~ /alert/ && $r->{err} !~ /alert/ ? 1 : 0;
	};
	serve($default, '-u', @set);
	is($by_key->(), 1, "$what in a server with pre-shared keys of its own: they are good");
	serve($demand, '-u', @set);
	is($by_key->(), 0, 'but not where it demands programs');

	serve($require, @set);
	is_so(client([ $C ], 1, @a, @policy), "$what in a server that requires a channel: no other client", qr/^failed/, qr/role=server did=refused/);
	is_so(client([ $C ], 1, @a, @policy, qw(-m 12)), 'nor an earlier version', qr/^failed/, qr/role=server did=refused/);
	is_so(client([ hosted($default, $C) ], 2, @a, @policy), 'programs may', qr/^ok .*reused=1/, records_of('completed mode=psk'));
	serve(undef);
	is_so(client([ hosted($require, $C) ], 1, qw(-n b.test), @policy, @set, '-y'), 'a client that requires one: no other server', qr/^failed/, qr/role=client did=refused/);
	# RSA alone, which needs no group.
	my @rsa = qw(-m 12 -L AES128-GCM-SHA256);
	serve(undef, @rsa);
	like(client([ $C ], 0, @a, '-a', $foreign[0], @rsa)->{line}, qr/^ok .*TLSv1\.2/, 'with TLS 1.2 and no group others get there');
	is_so(client([ hosted($require, $C) ], 1, qw(-n b.test), @policy, @set, '-y', @rsa), 'but not it', qr/^failed/, qr/role=client did=refused/);
	serve_with($certificate, \@foreign, @rsa);
	like(client([ $C ], 1, @a, '-a', $foreign[0], @rsa)->{line}, qr/^ok .*TLSv1\.2/, 'nor does a server need one');
	serve_with($require, \@foreign, @set, @rsa);
	is_so(client([ $C ], 1, @a, '-a', $foreign[0], @rsa), 'but where it requires a channel', qr/^failed/, qr/role=server did=refused/);
}

# --- left alone

serve($host->conf('off', 'mode = off', 'peers = p', '[p]', 'b.test = require'));
is_so(client([ hosted($nopsk, $C) ], 1, @a, @policy), 'a server whose mode is off does not use the group', qr/^failed/, qr/role=client did=refused/);

# --- TLS 1.2

for my $what (sort keys %sets) {
	my @set = @{ $sets{$what} };
	serve($twelve, qw(-m 12), @set);
	is_so(client([ hosted($twelve, $C) ], 2, @a, @policy, qw(-m 12)), "$what in a server: a pre-shared key with TLS 1.2",
		qr/^ok version=TLSv1\.2/, records_of('completed mode=psk tls=771'));
	serve($twelve, qw(-m 12));
	is_so(client([ hosted($twelve, $C) ], 2, @a, @policy, qw(-m 12), grep { $_ ne '-d' } @set), 'and in a client', qr/^ok version=TLSv1\.2/,
		records_of('completed mode=psk tls=771'));
}
serve($twelve, qw(-m 12 -t));
is_so(client([ hosted($twelve, $C) ], 2, @a, @policy, qw(-m 12)), 'a server that has asked for the suites of an SSL',
	qr/^ok version=TLSv1\.2/, records_of('completed mode=psk tls=771'));
is_so(client([ hosted($twelve, $C) ], 2, @a, @policy, qw(-m 12 -t)), 'and a client', qr/^ok version=TLSv1\.2/, records_of('completed mode=psk tls=771'));
$server->stop;

# --- Node.js, which sets an info callback in each SSL

SKIP: {
	my $node = '/usr/bin/node';
	skip 'no node (Debian package nodejs)', 1 if !-x $node;
	skip "$node has an OpenSSL of its own inside", 1 if run($node, '-p', 'process.config.variables.node_shared_openssl')->{out} !~ /^true/;
	my $serves = spew("$dir/server.js", <<'JS');
const fs = require("fs"), tls = require("tls"), [ cert, key ] = process.argv.slice(2).map(f => fs.readFileSync(f))
const s = tls.createServer({ cert, key }, c => c.pipe(c)).listen(0, "127.0.0.1", () => console.log("port " + s.address().port))
s.on("tlsClientError", () => {})
JS
	my $asks = spew("$dir/client.js", <<'JS');
const fs = require("fs"), tls = require("tls"), [ port, ca ] = process.argv.slice(2)
const c = tls.connect({ host: "127.0.0.1", port, servername: "a.test", ca: fs.readFileSync(ca) }, () => c.write("hello"))
c.on("data", d => { console.log("ok " + d); c.end() })
c.on("error", e => { console.log("failed " + e.message); process.exit(1) })
JS
	my @files = map { "$state/$_/$</node.pem" } qw(certs keys);
	ok_run([ $host->cmd(qw(key new node --for), $node, qw(--policy exact --), $serves, @files) ], 'a key of Node.js');
	ok_run([ $host->cmd('trust', $node, '--serves', 'a.test') ], 'which serves the name');
	ok_run([ $host->cmd('connect', $node, $node) ], 'and may talk to itself');
	my @node = ($host->cmd(qw(run --quiet --)), $node); # such a key is for its openssl.cnf as well
	my $connect = sub {
		my ($want) = @_;
		$lines = 0;
		$lines = () = records();
		my $r = run(@node, $asks, $port, "$state/policy.pem", { timeout => 60 });
		wait_for(sub { (() = records()) >= $want }, 10);
		return { line => "$r->{out}$r->{err}", told => '', server => $server->log, records => [ map { s/.*Tao\.Handshake//r } records() ] };
	};
	$server = spawn(@node, $serves, @files);
	$port = $server->wait_for_line(qr/^port (\d+)$/m, 60) // diag($server->log);
	is_so($connect->(2), 'Node.js with itself: one record at each end', qr/^ok hello/, records_of('completed mode=psk'));
	$server->stop;
	$server = spawn($node, $serves, @foreign);
	$port = $server->wait_for_line(qr/^port (\d+)$/m, 60) // diag($server->log);
	is_so($connect->(1), 'and with a stranger: refused, with a record', qr/^failed/, qr/role=client did=refused/);
	$server->stop;
}

done_testing();
