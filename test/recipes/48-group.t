# The TLS 1.3 group tao_x25519 in real programs, on one host: negotiated on both ends, with or without a
# second ClientHello; who the peer is; what happens when one side has no such group, or is not the
# program that it should be, or its host is restarted in between.
use strict;
use warnings;

use File::Copy qw(copy);
use POSIX qw(mkfifo);
use Test::More;
use TaoNginx;
use TaoTest;

need_programs(qw(openssl nginx curl));

my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;
my $openssl = '/usr/bin/openssl';
my $openssl_3_0 = run($openssl, 'version')->{out} =~ /^OpenSSL 3\.0\./;
my $peer = tool('grouppeer');
my ($cert, $key) = ("$dir/server.crt", "$dir/server.key");

ok_run([ $openssl, qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost),
	'-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-out', $cert, '-keyout', $key ], 'a certificate');
chmod 0644, $key;

# --- configurations: the host's own, with lines for libssl, and without the module that sets groups by itself

my $base = slurp($host->conf('off', 'mode = off'));
sub configuration {
	my ($name, $lines, $text) = @_;
	$text //= $base;
	$text =~ s/^\[openssl_init\]\n/[openssl_init]\nssl_conf = ssl_section\n/m or die "no [openssl_init]\n";
	return spew("$dir/$name.cnf", "$text\n[ssl_section]\nsystem_default = tls_section\n\n[tls_section]\n$lines");
}

my $require = "MinProtocol = TLSv1.3\n1.Groups = brainpoolP512r1\n2.Groups = tao_x25519\n";
my %conf = (
	require => configuration('require', $require),
	server => configuration('server', "Groups = tao_x25519:P-256:P-384\n"),
	client => configuration('client', "Groups = X25519:tao_x25519:P-256:P-384\n"),
	first => configuration('first', "Groups = tao_x25519:X25519:P-256:P-384\n"),
	hidden => configuration('hidden', "Groups = tao_x25519:X25519:P-256\n"),
);
my $plain = { env => { OPENSSL_CONF => '/dev/null' } };

# A command under tao run with that configuration.
sub hosted {
	my ($conf, @cmd) = @_;
	return $host->cmd('run', '--quiet', '--openssl-conf', $conf{$conf}, '--', @cmd);
}

# --- what went over the wire

# Handshake messages of s_client -msg or s_server -msg: [sent, name, bytes].
sub messages {
	my ($log) = @_;
	my @found;
	while ($log =~ /^(<<<|>>>) TLS 1\.\d, Handshake \[length \w+\], (\w+)\n((?: {4}[0-9a-f ]+\n)+)/mg) {
		my ($way, $name, $hex) = ($1, $2, $3);
		push @found, [ $way eq '>>>', $name, pack('H*', $hex =~ s/\s//gr) ];
	}
	return @found;
}

# The group of a ServerHello: of its key_share, whether that is a HelloRetryRequest's or a real one.
sub group_of {
	my ($hello) = @_;
	my $p = substr $hello, 4 + 2 + 32;
	$p = substr $p, 1 + ord($p) + 3 + 2;
	while (length $p >= 4) {
		my ($type, $n) = unpack 'nn', $p;
		return unpack 'n', substr $p, 4, 2 if $type == 51;
		$p = substr $p, 4 + $n;
	}
	return 0;
}

# What a handshake came to: "GROUP" or "GROUP after HRR", as the log of one end has it; '' if there was none.
sub outcome {
	my ($log) = @_;
	my @messages = messages($log);
	my @server = map { $_->[2] } grep { $_->[1] eq 'ServerHello' } @messages;
	return '' if !@server || !grep { $_->[1] eq 'Finished' } @messages;
	my $clients = grep { $_->[1] eq 'ClientHello' } @messages;
	return sprintf('%04x', group_of($server[-1])) . ($clients > 1 ? ' after HRR' : '');
}

sub s_server {
	my ($conf) = @_;
	my $port = free_port();
	my @cmd = ($openssl, qw(s_server -www -msg -cert), $cert, '-key', $key, '-accept', "127.0.0.1:$port");
	my $server = $conf ? spawn(hosted($conf, @cmd)) : spawn(@cmd, $plain);
	$server->wait_for_line(qr/^ACCEPT/m, 20) or diag($server->log);
	return ($server, $port);
}

sub s_client {
	my ($conf, $port) = @_;
	my @cmd = ($openssl, qw(s_client -msg -CAfile), $cert, '-verify_return_error', '-connect', "127.0.0.1:$port");
	return $conf ? run(hosted($conf, @cmd)) : run(@cmd, $plain);
}

# One handshake between two openssl commands; the outcome on both ends must be that.
sub shakes {
	my ($client, $server, $want, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($s, $port) = s_server($server);
	my $r = s_client($client, $port);
	wait_for(sub { $s->log =~ /ClientHello.*Finished.*<<<.*Finished/s }) if $want;
	$s->stop;
	my @got = (outcome($r->{out}), outcome($s->log));
	return is_deeply(\@got, [ $want, $want ], $name)
	    || diag($r->{out} =~ s/^ {4}[0-9a-f ]+\n//mgr, $r->{err}, $s->log =~ s/^ {4}[0-9a-f ]+\n//mgr);
}

# --- rules of who may talk

fails_with([ hosted('require', $peer, 'client', 1) ], qr/^/, '(nobody listens)');
{
	my ($s, $port) = s_server('require');
	my $r = s_client('require', $port);
	like($r->{err}, qr/no rule lets these two programs talk.*tao connect/, 'without any rule, a client learns why it has no group');
	$s->stop;
}
ok_run([ $host->cmd('connect', $_->[0], $_->[1]) ], "$_->[2] may talk")
    for [ $openssl, $openssl, 'openssl and openssl' ], [ $peer, $peer, 'grouppeer and grouppeer' ],
    [ '/usr/bin/curl', '/usr/sbin/nginx', 'curl and nginx' ];

# --- who pays the round trip

shakes('require', 'require', 'fe10', 'group and nothing else: at once');
shakes('client', 'server', 'fe10 after HRR', 'client with X25519 first, server without X25519: the server asks for it');
shakes('first', 'server', 'fe10', 'client with the group first: at once');
shakes('client', undef, '001d', 'a client of ours, an ordinary server: X25519 at once');
shakes('first', undef, '001d after HRR', 'with the group first: a round trip more');
shakes(undef, 'server', '0017 after HRR', 'an ordinary client, a server of ours: P-256');
shakes('client', 'hidden', '001d', 'a server that has X25519 as well takes the share it was sent, and there is no group');
shakes('require', undef, '', 'nothing but the group, an ordinary server: no handshake');
shakes(undef, 'require', '', 'the other way');

# --- who the peer is

sub names { my ($label) = @_; return $host->tao(qw(--json ps))->{out} =~ /"name": ?"((?:[^"\\]|\\.)*\Q$label\E(?:[^"\\]|\\.)*)"/ }

sub grouppeer_server {
	my ($conf, $program) = @_;
	my $server = spawn(hosted($conf, $program // $peer, 'server', $cert, $key));
	my $port = $server->wait_for_line(qr/^port (\d+)$/, 20) or diag($server->log);
	return ($server, $port);
}

sub peers { return $_[0] =~ /^peer (.*)$/mg }
my $measured = qr/\.Measured\(\[[0-9a-f]{64}\], \[[0-9a-f]{64}\], \d+\)\.PolicyKey/;
{
	my ($s, $port) = grouppeer_server('require');
	my $r = ok_run([ hosted('require', $peer, 'client', $port) ], 'a client and a server that ask who the peer is');
	like($r->{out}, qr/^group tao_x25519$/m, 'the client has the group');
	like($r->{out}, qr/^peer key\(.*$measured/m, 'and the name of a program');
	ok(wait_for(sub { peers($s->log) }), 'the server has one as well');
	like($s->log, qr/^group tao_x25519\npeer key\(.*$measured/m, 'of a program');
	isnt((peers($r->{out}))[0], (peers($s->log))[0], 'the two are not the same: arguments are part of a name');
	ok_run([ hosted('require', $peer, 'client', '-f', $port) ], 'a client that forks after its first message ends the handshake in the child');
	$r = run($peer, 'client', $port, $plain);
	is($r->{status}, 1, 'a client without the Tao is refused');
	$r = ok_run([ hosted('require', $peer, 'client', $port) ], 'which does the server no harm');
	$s->stop;
	($s, $port) = grouppeer_server('server');
	$r = ok_run([ $peer, 'client', $port ], 'where the server allows it, one without the Tao is served', $plain);
	like($r->{out}, qr/^group (?:secp256r1|P-256)$/m, 'with an ordinary group');
	ok(wait_for(sub { $s->log =~ /^peer none$/m }), 'and is nobody to it');
	$s->stop;
}

# --- the wrong program

my $other = "$dir/other";
copy($peer, $other) or die;
chmod 0755, $other;
open my $append, '>>', $other or die;
print $append "\n";
close $append;
{
	my ($s, $port) = grouppeer_server('require');
	my $r = run(hosted('require', $other, 'client', $port));
	is($r->{status}, 1, 'a program that no rule lets talk to the server');
	like($r->{out}, qr/^failed\nerror .*alert illegal parameter/m, 'gets an alert');
	ok(wait_for(sub { $s->log =~ /^failed$/m }), 'the server fails');
	like($s->log, qr/^failed\nerror the Tao host refuses a Tao group with this peer: no rule lets/m, 'and says why, first of all');
	ok_run([ hosted('require', $peer, 'client', $port) ], 'the right one is served');
	$s->stop;
	($s, $port) = grouppeer_server('require', $other);
	$r = run(hosted('require', $peer, 'client', $port));
	is($r->{status}, 1, 'a server that no rule lets talk to the client');
	ok(wait_for(sub { $s->log =~ /no rule lets/ }), 'cannot make the key');
	$s->stop;
}

# --- revoked

{
	my ($s, $port) = grouppeer_server('require');
	ok_run([ hosted('require', $peer, 'client', $port) ], 'before it is revoked');
	ok_run([ $host->cmd('revoke', $peer) ], 'a program is revoked');
	is(run(hosted('require', $peer, 'client', $port))->{status}, 1, 'the next handshake fails');
	ok_run([ $host->cmd('revoke', '--undo', $peer) ], 'not any more');
	ok_run([ hosted('require', $peer, 'client', $port) ], 'then it is served by the same server');
	$s->stop;
}

# --- nginx and curl

SKIP: {
	skip 'curl hangs with the sanitizers\' runtime alone', 10 if config('TAO_ASAN');
	my $port = free_port();
	my $conf = nginx_conf("$dir/nginx", $port, $cert, $key, { main => 'daemon off;', says => "curve \$ssl_curve\n" });
	my $nginx = spawn(hosted('server', '/usr/sbin/nginx', '-c', $conf, '-e', "$dir/nginx/error.log"));
	my @curl = ('/usr/bin/curl', qw(-sS --cacert), $cert, "https://localhost:$port/");
	ok(wait_for(sub { run('/usr/bin/curl', '-sk', "https://localhost:$port/", $plain)->{status} == 0 }, 30), 'nginx serves')
	    or diag($nginx->log, slurp("$dir/nginx/error.log"));
	like(ok_run([ hosted('require', @curl) ], 'curl with nothing but the group')->{out}, qr/^curve (?:0xfe10|tao_x25519)$/, 'and nginx has it');
	like(ok_run([ hosted('client', @curl) ], 'curl with X25519 first')->{out}, qr/^curve (?:0xfe10|tao_x25519)$/, 'nginx has the group');
	like(ok_run([ @curl ], 'curl without the Tao', $plain)->{out}, qr/^curve (?:prime256v1|P-256|0x0017)$/, 'has P-256');
	ok_run([ $host->cmd(qw(connect --remove /usr/bin/curl /usr/sbin/nginx)) ], 'the rule is removed');
	fails_with([ hosted('require', @curl) ], qr/^curl: .*(?:illegal parameter|SSL)/, 'the next curl fails');
	ok(wait_for(sub { slurp("$dir/nginx/error.log") =~ /no rule lets these two programs talk/ }), 'and nginx logs why');
	$nginx->stop;
}

# --- a host that goes away

{
	my ($s, $port) = grouppeer_server('require');
	my $fifo = "$dir/fifo";
	mkfifo($fifo, 0600) or die;
	my $c = spawn('sh', '-c', 'exec "$@" <' . $fifo, 'sh', hosted('require', $peer, 'client', '-w', $port));
	open my $go, '>', $fifo or die;
	ok($c->wait_for_line(qr/^sent$/, 20), 'a client has sent its share') or diag($c->log);
	ok(wait_for(sub { $s->log =~ /^port/m }), '(the server)');
	$host->tao('down');
	ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], 'its host is restarted');
	# Of the same name as the server, which the new taod knows from then on.
	my ($next, $next_port) = grouppeer_server('require');
	ok_run([ hosted('require', $peer, 'client', $next_port) ], 'the next ones are fine');
	print $go "\n";
	close $go;
	is($c->wait(30), 1, 'it cannot end the handshake');
	like($c->log, qr/^failed\nerror the Tao host .*: this key share was not drawn for this program$/m, 'and says why, first of all') or diag($c->log);
	$next->stop;
	$s->stop;
	($s, $port) = grouppeer_server('require');
	$host->tao('down');
	my $r = run(hosted('require', $peer, 'client', $port));
	isnt($r->{status}, 0, 'without a host nothing starts');
	$r = run($peer, 'client', $port, { env => { OPENSSL_CONF => $conf{require}, OPENSSL_MODULES => module_dir() } });
	like($r->{out}, qr/^failed\nerror the Tao host is not running: start it with 'tao up'/m, 'who starts by itself learns that there is none');
	$s->stop;
	ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], 'the host is started');
}

# --- without the provider

{
	my $lost = $base =~ s/^module = .*$/module = $dir\/nowhere.so/mr;
	$conf{lost} = configuration('lost', $require, $lost);
	$conf{open} = configuration('open', "Groups = tao_x25519\n", $lost);
	my ($s, $port) = s_server();
	my $r = run($peer, 'client', $port, { env => { OPENSSL_CONF => $conf{lost} } });
	is($r->{status}, 1, 'without the provider, the two lines of Groups let no client connect');
	like($r->{out}, qr/no suitable groups|suitable key share|no ciphers available/i, 'and it says that there is no group') or diag($r->{out});
	$s->stop;
	$s = spawn($peer, 'server', $cert, $key, { env => { OPENSSL_CONF => $conf{lost} } });
	$port = $s->wait_for_line(qr/^port (\d+)$/, 20);
	is(run($peer, 'client', $port, $plain)->{status}, 1, 'nor a server accept one') or diag($s->log);
	$s->stop;
	$s = spawn($peer, 'server', $cert, $key, $plain);
	$port = $s->wait_for_line(qr/^port (\d+)$/, 20);
	is(run($peer, 'client', $port, { env => { OPENSSL_CONF => $conf{open} } })->{status}, 0,
		'(with one line it does connect: OpenSSL ignores what it cannot read)') if $openssl_3_0;
	$s->stop;
}

done_testing();
