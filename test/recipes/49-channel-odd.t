# tao_tls.so in programs that use libssl in ways of their own, against strangers and against programs of
# the domain: what is required stays required.
use strict;
use warnings;
use IO::Handle;
use POSIX 'mkfifo';
use Test::More;
use TaoTest;

need_programs(qw(openssl));
my $openssl = '/usr/bin/openssl';
my $odd = tool('oddclient');
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;

# Of a symbol's version, as System V has it.
sub elf_hash {
	my $h = 0;
	for my $c (unpack 'C*', $_[0]) {
		$h = ($h << 4) + $c;
		my $g = $h & 0xf0000000;
		$h = ($h ^ ($g >> 24)) & ~$g & 0xffffffff;
	}
	return $h;
}

my $default = $host->conf('default');
my $require = $host->conf('require', 'mode = require');
ok_run([ $host->cmd(qw(key new web --for), $openssl) ], 'a key');
ok_run([ $host->cmd('trust', $openssl, '--serves', 'a.test') ], 'which serves a.test');
ok_run([ $host->cmd('connect', $_, $openssl) ], "$_ may talk to openssl") for $odd, $openssl;
ok_run([ $openssl, qw(req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=a.test -addext),
	'subjectAltName=DNS:a.test,DNS:b.test', '-keyout', "$dir/f.key", '-out', "$dir/f.crt" ], 'a stranger');
my @own = qw(-cert tao:web -key tao:web);
my @foreign = ('-cert', "$dir/f.crt", '-key', "$dir/f.key");
my @ca = ('ca', "$dir/f.crt");
my @policy = ('ca', "$state/policy.pem");

# s_server without -rev ends at the end of its input.
my $input = "$dir/input";
mkfifo($input, 0600) && open(my $keep_open, '+<', $input) or die "$input: $!";

my ($server, $port);
sub serve {
	my ($conf, @more) = @_;
	$server->stop if $server;
	$port = free_port();
	$server = spawn(($conf ? $host->cmd(qw(run --quiet --openssl-conf), $conf, '--', $openssl) : $openssl),
		's_server', '-accept', "127.0.0.1:$port", @more, { stdin => $input });
	$server->wait_for_line(qr/^ACCEPT/m, 20) // diag($server->log);
}
sub says {
	my ($conf, $name, @how) = @_;
	my $r = run($host->cmd(qw(run --quiet --openssl-conf), $conf, '--', $odd), $port, $name, @how,
		{ timeout => 20 });
	fail("@how: " . $r->{err}) if $r->{err} =~ /Sanitizer/;
	return $r->{out};
}

# --- QUIC, and TLS in the same process

SKIP: {
	my $quic = tool('quic');
	my @own = ("$state/certs/$>/quic.pem", "$state/keys/$>/quic.pem", "$state/policy.pem");
	my @stranger = map { "$dir/f.$_" } qw(crt key crt);
	skip 'libssl has no QUIC server: OpenSSL 3.5 has', 8 if run($quic, @stranger, 'a.test')->{status} == 77;
	ok_run([ $host->cmd(@$_) ], "@$_[0 .. 1]") for [ qw(key new quic --for), $quic ], [ 'trust', $quic, qw(--serves a.test) ],
		[ 'connect', $quic, $quic ];
	my $said = sub {
		my ($conf, @files) = @_;
		my $r = run($host->cmd(qw(run --quiet --openssl-conf), $conf, '--', $quic), @files, { timeout => 20 });
		return join ' ', "$r->{out}\n$r->{err}" =~ /^(tls \w+|done|failed|.*Sanitizer.*)/mg;
	};
	my $certificate = $host->conf('quic', 'mode = certificate');
	is($said->($default, @stranger, 'b.test'), 'tls done done done', 'a name that policy does not know');
	is($said->($certificate, @own, 'a.test'), 'tls done done done', 'one that it knows');
	is($said->($certificate, @stranger, 'a.test'), 'tls failed failed failed', 'and a stranger in its place');
	is($said->($host->conf('off', 'mode = off'), @stranger, 'a.test'), 'tls done done done', 'who will do without the module');
	my @records = $host->tao('log')->{out} =~ /\bquic\[\d+\]: Tao\.Handshake role=client .*?\btls=(\d+)/g;
	ok(@records >= 7 && !grep({ $_ != 772 } @records), 'records of TLS 1.3') or diag("@records");
}

# --- several libssl in one process

{
	my %lib = run('ldd', $odd)->{out} =~ m{\b(lib(?:ssl|crypto))\.so\.\d+ => (/\S+)}g;
	my ($major) = ($lib{libssl} // '') =~ /(\d+)$/ or die 'oddclient has no libssl';
	my $is = sub {
		my ($libs, $want, $name) = @_;
		my $r = run(tool('twossl'), @$libs, { env => { OPENSSL_CONF => $default, LD_LIBRARY_PATH => $dir } });
		is($r->{out}, join('', map { "$_\n" } @$want), $name) or diag($r->{err});
	};
	my $copy = spew("$dir/libssl-copy.so", slurp($lib{libssl}));
	# It goes with a libcrypto of its own.
	my %other = map { $_ => slurp($lib{$_}) =~ s/libcrypto\.so\.\K$major/x/gr } keys %lib;
	spew("$dir/libcrypto.so.x", $other{libcrypto});
	my $foreign = spew("$dir/libssl-foreign.so", $other{libssl});
	$is->([ $lib{libssl}, $lib{libssl} ], [qw(hooked hooked)], 'libssl');
	$is->([ $copy ], ['hooked'], 'another one, with the same libcrypto');
	$is->([ $lib{libssl}, $copy ], [qw(hooked alone)], 'two: the functions of one are not tried on what the other one made');
	$is->([ $foreign ], ['alone'], 'one with another libcrypto');
	$is->([ $lib{libssl}, $foreign, $lib{libssl} ], [qw(hooked alone hooked)], 'with ours before it');
	$is->([ $foreign, $lib{libssl} ], [qw(alone alone)], 'or behind it, where its name leads to the other one');

	# Another major version: its files, and the versions of its symbols, have other names.
	my ($version, $next) = (qr/OPENSSL_$major(?=\.\d+\.\d+\0)/, 9);
	my %next = map { $_ => slurp($lib{$_}) =~ s/lib(?:ssl|crypto)\.so\.\K$major/$next/gr } keys %lib;
	my %versions = map { $_ => 1 } map { /($version\.[\d.]+)/g } values %next;
	my %hash = map { pack('V', elf_hash($_)) => pack('V', elf_hash(s/$major/$next/r)) } keys %versions;
	my $hashes = join '|', map { quotemeta } keys %hash;
	my @files = map { spew("$dir/$_.so.$next", $next{$_} =~ s/$version/OPENSSL_$next/gr =~ s/($hashes)/$hash{$1}/gr) } qw(libcrypto libssl);
	$is->(\@files, [qw(loaded alone)], 'another OpenSSL');
	$is->([ @files, $lib{libssl} ], [qw(loaded alone hooked)], 'with ours behind it');
	my $bound = run(tool('twossl'), '+' . $files[0], $files[1], { env => { OPENSSL_CONF => $default, LD_DEBUG => 'bindings' } })->{err};
	like($bound, qr{^\s*\d+:\s+binding file \S*/tao(?:_tls)?\.so \S+ to \S*libcrypto\.so\.$major }m, 'the modules call the OpenSSL that they are built with');
	unlike($bound, qr{binding file \S*/tao(?:_tls)?\.so \S+ to \Q$files[0]\E \[\d+\]: normal symbol}, 'and never the other one');
	my $input = "$dir/waits";
	mkfifo($input, 0600) && open(my $to, '+<', $input) or die "$input: $!";
	my $p = spawn($host->cmd(qw(run --quiet --openssl-conf), $require, '--', tool('twossl')), @files, '-', { stdin => $input });
	$p->wait_for_line(qr/^waiting/m, 20) or diag($p->log);
	my $said = $host->tao('doctor', $p->pid)->{out};
	like($said, qr{^ok .*uses OpenSSL $next, $dir/libcrypto\.so\.$next$}m, 'tao doctor PID: which one it uses');
	like($said, qr{^error .*tao(?:_tls)?\.so is for libssl\.so\.$major, and it uses $dir/libssl\.so\.$next: no Tao channel}m, 'and that nothing is enforced');
	unlike($said, qr/mode = /, 'so no mode is told') or diag($said);
	like($said, qr/^ok .*loaded .*tao\.so$/m, 'the provider is there');
	$p->stop;
}

# --- strangers

serve(undef, '-rev', @foreign);
like(says($host->conf('off', 'mode = off'), 'b.test', @ca, $_), qr/^done/m, "without the module a stranger will do: $_")
	for qw(plain fixed info hosts dot);
like(says($require, 'b.test', @ca, $_), qr/^failed/, "require, a stranger: $_") for qw(plain fixed info);
like(says($default, 'a.test', @ca, $_), qr/^failed/, "a name that policy knows, a stranger: $_")
	for qw(plain fixed info hosts dot);
like(says($host->conf('hosts', 'peers = p', '[p]', 'a.test = require', 'other.test = off'), 'a.test', @ca, 'hosts'),
	qr/^failed/, 'the strictest mode of all names');
like(says($default, 'b.test', @ca, $_), qr/^done/m, "a name that it does not: $_") for qw(plain fixed info);
serve(undef, '-dtls', @foreign);
like(says($host->conf('off', 'mode = off'), 'b.test', @ca, 'dtls'), qr/^shook/m, 'DTLS with a stranger');
like(says($require, 'b.test', @ca, 'dtls'), qr/^failed .*\n.*it has to be a Tao channel, which DTLS cannot be/m, 'not where a Tao channel is required');
like(says($default, 'a.test', @ca, 'dtls'), qr/^failed .*\n.*the certificate is none of theirs/m, 'nor for a name that policy knows');
serve($default, '-dtls', @own);
like(says($default, 'a.test', 'dtls'), qr/^shook/m, 'whose own programs do');

# --- servers that require

serve($require, '-dtls', @foreign);
{
	my $r = run($openssl, qw(s_client -dtls -connect), "127.0.0.1:$port", '-CAfile', "$dir/f.crt",
		{ timeout => 20 });
	unlike($r->{out}, qr/Cipher is [A-Z]/, 'a server that requires a Tao channel, with DTLS');
	ok($server->wait_for_line(qr/it has to be a Tao channel, which DTLS cannot be/, 20), 'says why') or diag($server->log);
}

# --- programs of the domain

serve($default, '-rev', @own);
like(says($default, 'a.test', 'plain'), qr/^done .* reused=1 verify=0 peer=yes/, 'a PSK');
like(says($default, 'a.test', 'none'), qr/^done .* reused=1 verify=0 peer=yes/, 'also with no verification');
like(says($host->conf('notrust', 'trust = no'), 'a.test', 'none'), qr/^done .* verify=[1-9]/,
	'where the domain is not trusted, who asks later for the result is not told that it was good');
like(says($host->conf('notrust', 'trust = no'), 'a.test', 'none', @policy), qr/^done .* reused=1 verify=0/,
	'but where the program trusts it');
like(says($default, 'a.test', 'dot'), qr/^done .* reused=1 verify=0/, 'one of several below a domain');
like(says($default, 'a.test', 'again'), qr/^done .*^done .* reused=1/ms, 'the same SSL a second time');
like(says($default, 'a.test', qw(again address)), qr/^done .* reused=1.*^failed .* reused=0 .*does not verify/ms,
	'which now asks for an address as well: that the chain was good a moment ago is not enough');
like(says($default, 'a.test', 'info'), qr/^told\n^done /m, 'an info callback of its own');
like(says($default, 'a.test', qw(info again dup)), qr/^told\n^done .*^told\n^done .* reused=1/ms, 'which a copy of the SSL has as well');
like(says($require, 'a.test', 'info'), qr/^done /m, 'the same, required');
serve($host->conf('nogroup', 'group = no'), '-rev', '-client_renegotiation', @own);
like(says($host->conf('nogroup', 'group = no'), 'a.test', 'fixed', 'renew'), qr/^done .*^done .*TLSv1.2/ms,
	'a renegotiation');

# --- resumption

{
	my $twelve = $host->conf('twelve', 'tls12_psk = yes', 'group = no');
	my $session = "$dir/session";
	serve($twelve, '-rev', @own);
	my @c = ($host->cmd(qw(run --quiet --openssl-conf), $twelve, '--', $openssl), qw(s_client -tls1_2 -ign_eof),
		qw(-servername a.test -connect), "127.0.0.1:$port");
	my $r = run(@c, '-sess_out', $session, { stdin => "forward\nCLOSE\n", timeout => 20 });
	like($r->{out}, qr/Cipher is \S*PSK/, 'a PSK with TLS 1.2');
	unlike($r->{out}, qr/TLS session ticket:|Session-ID: [0-9A-F]/, 'leaves no session behind');
	ok((grep { /Tao\.Handshake .*mode=psk tls=771/ } split /\n/, $host->tao('log')->{out}), 'and has its record');
}
# --- the host is silent from before a program's first connection

{
	my ($keeper) = $host->tao('status', '--json')->{out} =~ /"pid": ?(\d+)/;
	my $soon = sub { my ($file) = @_; return spew("$file.soon", slurp($file) =~ s/^#?(timeout) = .*$/$1 = 1000/mr) };
	my @cases = ([ 'a name that the file requires', $host->conf('named', 'peers = p', '[p]', 'a.test = require'), 0 ],
		[ 'require', $require, 0 ],
		[ 'prefer, a name that was never asked about: certificates decide, and the program trusts this one', $default, 1 ]);
	my $n = 0;
	my $begin = sub {
		my $line = "$dir/late" . $n++;
		mkfifo($line, 0600) && open(my $to, '+<', $line) or die "$line: $!";
		$to->autoflush(1);
		my $client = spawn($host->cmd(qw(run --quiet --openssl-conf), $soon->($_[0]), '--', $odd), $port, 'a.test', $_[1] ? @{ $_[1] } : @ca, qw(late anyway), { stdin => $line });
		$client->wait_for_line(qr/^waiting/m, 20) // diag($client->log);
		return [ $client, $to ];
	};
	# Both connections: the second one finds that the host is left alone.
	my $rest = sub {
		my ($c, $like, $name) = @_;
		print { $c->[1] } "\n";
		$c->[0]->wait(90);
		is(join(' ', $c->[0]->log =~ /^(done|failed)/mg), "$like $like", $name) or diag($c->[0]->log);
	};
	serve(undef, '-rev', @foreign);
	my @clients = map { $begin->($_->[1]) } @cases;
	kill 'STOP', $keeper or die "$keeper: $!";
	eval { $rest->(shift @clients, $_->[2] ? 'done' : 'failed', "a silent host: $_->[0]") for @cases; 1 } or fail($@);
	kill 'CONT', $keeper;

	# A server that needs no host for its signatures.
	ok_run([ $host->cmd(qw(key new held --custody program --for), $openssl) ], 'a key that the program holds');
	serve($host->conf('alone', 'mode = off', 'renew = 0'), qw(-rev -cert tao:held -key tao:held));
	my @own_clients = map { $begin->($default, $_) } [ @ca, 'none' ], \@policy;
	kill 'STOP', $keeper or die "$keeper: $!";
	eval {
		$rest->($own_clients[0], 'failed', 'nor is one of the domain accepted that nobody can judge: not by a program that verifies nothing');
		$rest->($own_clients[1], 'failed', 'nor by one that trusts the domain by itself');
		1;
	} or fail($@);
	kill 'CONT', $keeper;
	like(says($host->conf('certificate', 'mode = certificate'), 'a.test', @policy), qr/^done /, 'as it is when the host answers again');
	serve($default, '-rev', @own);
	like(says($default, 'a.test', 'plain'), qr/^done .* reused=1/, 'and all is well');
}

# --- the host does not answer

{
	my $line = "$dir/line";
	mkfifo($line, 0600) && open(my $to, '+<', $line) or die "$line: $!";
	$to->autoflush(1);
	my $quiet = $host->conf('quiet', 'group = no', 'psk = no');
	serve($default, '-rev', @own);
	my $client = spawn($host->cmd(qw(run --quiet --openssl-conf), $quiet, '--', $odd), $port, 'a.test', @ca,
		qw(again wait), { stdin => $line });
	ok($client->wait_for_line(qr/^waiting/m, 20), 'a program knows a name') or diag($client->log);
	my $same = $port;
	$server->stop;
	$server = spawn($openssl, 's_server', '-accept', "127.0.0.1:$same", '-rev', @foreign);
	$server->wait_for_line(qr/^ACCEPT/m, 20);
	$host->tao('down');
	sleep 11; # what the host said last is kept for 10 seconds
	print $to "\n";
	ok($client->wait_for_line(qr/^(?:done.*^done|done.*^failed)/ms, 20), 'and connects again, without the host');
	unlike($client->log, qr/^done.*^done/ms, 'not to a stranger') or diag($client->log);
	$client->stop;
}
$server->stop;
done_testing();
