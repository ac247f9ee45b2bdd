# Tao channels over QUIC, as libssl itself has it: completed and refused, from both ends, and their records.
use strict;
use warnings;

use Test::More;
use TaoTest;

my $tool = tool('quicpeer');
plan skip_all => 'libssl has no QUIC server: OpenSSL 3.5 has' if run($tool)->{status} == 77;
need_programs('openssl');
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;

sub program {
	my ($name) = @_;
	spew("$dir/$name", slurp($tool) . $name);
	chmod 0755, "$dir/$name";
	return "$dir/$name";
}

my $default = $host->conf('default');
my ($web, $client, $other) = map { program($_) } qw(web client other);
ok_run([ $host->cmd(qw(key new), @$_) ], "a key: $_->[0]") for [ 'web', '--for', $web ], [ 'mine', '--for', $client ], [ 'third', '--for', $other ];
ok_run([ $host->cmd('trust', $web, '--serves', 'a.test') ], 'a server');
ok_run([ $host->cmd('trust', $_) ], 'and clients') for $client, $other;
ok_run([ $host->cmd('connect', $client, $web) ], 'one of which may talk to it');
ok_run([ 'openssl', qw(req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=a.test -addext),
	'subjectAltName=DNS:a.test,DNS:b.test', '-keyout', "$dir/f.key", '-out', "$dir/f.crt" ], 'a stranger');
sub files { my ($name) = @_; return map { "$state/$_/$</$name.pem" } qw(certs keys) }
run($host->cmd(qw(run --prepare), $_)) for $web, $client, $other;
my @own = files('web');
my @foreign = ("$dir/f.crt", "$dir/f.key");
my @policy = ('-a', "$state/policy.pem");

my ($server, $port);
sub hosted { my ($conf, $program) = @_; return $host->cmd(qw(run --quiet --openssl-conf), $conf, '--', $program) }
sub serve {
	my ($run, @args) = @_;
	$server->stop if $server;
	$server = spawn(@$run, 'server', @args);
	$port = $server->wait_for_line(qr/^port (\d+)$/m, 30) // diag($server->log);
}
sub says {
	my ($run, @args) = @_;
	my $r = run(@$run, 'client', @args, $port, { timeout => 30 });
	return "$r->{out}$r->{err}";
}

# Lines of the log with that which came since the last call.
my $seen = 0;
sub records {
	my @all = grep { /: Tao\.Handshake / } split /\n/, $host->tao('log')->{out};
	my @new = @all[$seen .. $#all];
	$seen = @all;
	return @new;
}
# One connection, its outcome, and one record of each end that has one: patterns, in any order.
sub is_so {
	my ($name, $out, $like, @want) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($out, $like, $name) or diag($server->log);
	my @got;
	wait_for(sub { push @got, records(); @got >= @want }, 10);
	my $fits = @got == @want;
	for my $want (@want) {
		$fits &&= 1 == grep { $_ =~ $want } @got;
	}
	ok($fits, '... and its records') or diag(join "\n", 'got:', @got, 'wanted:', @want);
}
sub done { my ($who, $role, $how) = @_; return qr/ $who\[\d+\]: Tao\.Handshake role=$role did=completed $how/ }
sub refused { my ($who, $role, $how, $why) = @_; return qr/ $who\[\d+\]: Tao\.Handshake role=$role did=refused $how.* reason=$why/ }

my ($suite, $peer) = (qr/tls=772 group=\S+ cipher=TLS_\w+ name=a\.test/, qr/peer=key\(\S+\.Measured\(/);
my $tao = qr/tls=772 group=tao_x25519\w* cipher=TLS_\w+ name=a\.test $peer/;
my $ok = qr/^ok group=\S+ cipher=\S+ reused=\d verify=0 peer=/;
my @name = qw(-n a.test);

# --- programs of the domain: with a pre-shared key, the group, a certificate

my %conf = (psk => $default, group => $host->conf('nopsk', 'psk = no'), certificate => $host->conf('certificate', 'mode = certificate'),
	require => $host->conf('require', 'mode = require'), ungrouped => $host->conf('nogroup', 'group = no'), demand => $host->conf('demand', 'demand = yes'));
serve([ hosted($default, $web) ], @own);
is_so('a pre-shared key and the group', says([ hosted($conf{psk}, $client) ], @name), qr/^ok group=tao_x25519\w* .* reused=1 verify=0 peer=\//,
	done('client', 'client', qr/mode=psk $tao/), done('web', 'server', qr/mode=psk $tao/));
is_so('the same, with libssl\'s own thread', says([ hosted($conf{psk}, $client) ], '-h', @name), qr/^ok group=tao_x25519\w* .* reused=1/,
	done('client', 'client', qr/mode=psk $tao/), done('web', 'server', qr/mode=psk $tao/));
is_so('the group alone', says([ hosted($conf{group}, $client) ], @name), qr/^ok group=tao_x25519\w* .* reused=0 verify=0 peer=\//,
	done('client', 'client', qr/mode=group $tao/), done('web', 'server', qr/mode=group $tao/));
is_so('a certificate alone', says([ hosted($conf{certificate}, $client) ], @name), qr/^ok group=X25519\S* .* reused=0 verify=0/,
	done('client', 'client', qr/mode=certificate $suite $peer/), done('web', 'server', qr/mode=none $suite/));
is_so('a pre-shared key alone', says([ hosted($conf{ungrouped}, $client) ], @name), qr/^ok group=X25519\S* .* reused=1/,
	done('client', 'client', qr/mode=psk $suite $peer/), done('web', 'server', qr/mode=psk $suite $peer/));
is_so('required', says([ hosted($conf{require}, $client) ], @name), qr/^ok group=tao_x25519/,
	done('client', 'client', qr/mode=psk $tao/), done('web', 'server', qr/mode=psk $tao/));
is_so('a client without the Tao', says([ $tool ], @name, @policy), $ok, done('web', 'server', qr/mode=none $suite/));
{
	my @log = grep { /client\[\d+\]: Tao\.Handshake .*mode=psk/ } split /\n/, $host->tao('log')->{out};
	my ($whom) = map { /peer=key\(\[\w+\]\)\.DatalogGuard\S+\.Measured\(\[(\w+)\]/ ? $1 : '' } @log;
	my ($hash) = run('sha256sum', $web)->{out} =~ /^(\w+)/;
	is($whom, $hash, 'the peer of a record is that program');
}
serve([ hosted($conf{demand}, $web) ], @own);
is_so('a server that demands a program', says([ hosted($conf{group}, $client) ], @name), $ok,
	done('client', 'client', qr/mode=group $tao/), done('web', 'server', qr/mode=group $tao/));
serve([ hosted($conf{require}, $web) ], @own);
is_so('a server that requires a channel', says([ hosted($default, $client) ], @name), qr/^ok group=tao_x25519/,
	done('client', 'client', qr/mode=psk $tao/), done('web', 'server', qr/mode=psk $tao/));

serve([ hosted($default, $web) ], @own);
is_so("an info callback of the client's own: $_", says([ hosted($conf{group}, $client) ], $_, @name), qr/^ok group=tao_x25519/,
	done('client', 'client', qr/mode=group $tao/), done('web', 'server', qr/mode=group $tao/)) for qw(-i -I);
serve([ hosted($default, $web) ], '-i', @own);
is_so("one of the server's", says([ hosted($conf{group}, $client) ], @name), qr/^ok group=tao_x25519/,
	done('client', 'client', qr/mode=group $tao/), done('web', 'server', qr/mode=group $tao/));

# --- the wrong program

my $no_rule = qr/no rule lets this client talk to this server/;
serve([ hosted($default, $web) ], @own);
is_so('a program that may not', says([ hosted($conf{group}, $other) ], @name), qr/^failed /,
	refused('other', 'client', qr/mode=none tls=772 .*name=a\.test/, qr/.*/),
	refused('web', 'server', qr/mode=group tls=772 group=tao_x25519\w* name=a\.test/, qr/the handshake failed: $no_rule/));
serve([ hosted($default, $web) ], @own);
is_so('nor with certificates: the client refuses', says([ hosted($conf{certificate}, $other) ], @name), qr/^failed .*$no_rule/,
	refused('other', 'client', qr/mode=none $suite/, $no_rule),
	refused('web', 'server', qr/mode=none tls=772 group=\S+ cipher=TLS_\w+/, qr/the handshake failed: the connection of QUIC ended/));
serve([ hosted($default, $web) ], '-m', @own);
is_so('a server with a message callback of its own', says([ hosted($conf{group}, $other) ], @name), qr/^failed /,
	refused('other', 'client', qr/mode=none tls=772 .*name=a\.test/, qr/.*/),
	refused('web', 'server', qr/mode=group tls=772 group=tao_x25519\w* name=a\.test/, qr/the handshake failed/));

# --- strangers

my @f = ('-a', "$dir/f.crt");
serve([ $tool ], @foreign);
is_so('a stranger under a name that policy knows', says([ hosted($default, $client) ], @name, @f), qr/^failed /,
	refused('client', 'client', qr/mode=none tls=772 name=a\.test/, qr/.*/));
is_so('a client with a message callback of its own', says([ hosted($conf{group}, $client) ], '-m', @name, @f), qr/^failed /,
	refused('client', 'client', qr/mode=none tls=772 name=a\.test/, qr/the handshake failed: the connection of QUIC ended/));
is_so("with an info callback of its own: $_", says([ hosted($conf{group}, $client) ], $_, @name, @f), qr/^failed /,
	refused('client', 'client', qr/mode=none tls=772 name=a\.test/, qr/it has to be a Tao channel, and the server ended it: alert 40/)) for qw(-i -I);
is_so('with libssl\'s own thread', says([ hosted($conf{group}, $client) ], '-h', @name, @f), qr/^failed /,
	refused('client', 'client', qr/mode=none tls=772 name=a\.test/, qr/it has to be a Tao channel, and the server ended it: alert 40/));
is_so('one that ends without freeing anything', says([ hosted($conf{group}, $client) ], '-l', @name, @f), qr/^failed /,
	refused('client', 'client', qr/mode=none tls=772 name=a\.test/, qr/it has to be a Tao channel, and the server ended it: alert 40/));
is_so('with certificates', says([ hosted($conf{certificate}, $client) ], @name, @f), qr/^failed .*none of theirs/,
	refused('client', 'client', qr/mode=none $suite/, qr/the rules say which programs serve a\.test/));
is_so('a name that it does not know', says([ hosted($default, $client) ], qw(-n b.test), @f), $ok,
	done('client', 'client', qr/mode=none tls=772 group=\S+ cipher=\S+ name=b\.test/));
is_so('where a channel is required', says([ hosted($conf{require}, $client) ], qw(-n b.test), @f), qr/^failed /,
	refused('client', 'client', qr/mode=none tls=772 name=b\.test/, qr/it has to be a Tao channel, and the server ended it: alert 40/));
is_so('a client that sets groups of its own', says([ hosted($default, $client) ], qw(-g X25519), @name, @f), qr/^failed /,
	refused('client', 'client', qr/mode=none tls=772 name=a\.test/, qr/.*/));
serve([ hosted($conf{require}, $web) ], @own);
is_so('a server that requires a channel, and a stranger', says([ $tool ], @name, @policy), qr/^failed /,
	refused('web', 'server', qr/mode=none tls=772 name=a\.test/, qr/it has to be a Tao channel: no suitable key share/));
serve([ hosted($conf{demand}, $web) ], @own);
is_so('one that demands a program', says([ $tool ], @name, @policy), qr/^(?:failed|ok) /,
	refused('web', 'server', qr/mode=none $suite/, qr/the handshake failed: peer did not return a certificate/));
unlike($server->log, qr/^ok /m, 'which gets no word through') or diag($server->log);
serve([ hosted($conf{demand}, $web) ], @own);
is_so('nor a stranger\'s certificate', says([ $tool ], '-c', "$dir/f.crt,$dir/f.key", @name, @policy), qr/^(?:failed|ok) /,
	refused('web', 'server', qr/mode=none $suite/, qr/this server talks to programs of its domain only/));
unlike($server->log, qr/^ok /m, 'either') or diag($server->log);

# --- QUIC's own reasons, and resumption

serve([ hosted($default, $web) ], @own);
is_so('a protocol that the server does not speak', says([ hosted($conf{group}, $client) ], qw(-p other), @name), qr/^failed /,
	refused('client', 'client', qr/mode=\w+ tls=772 .*name=a\.test/, qr/.*alert 120/),
	refused('web', 'server', qr/mode=\w+ tls=772 .*name=a\.test/, qr/.*no application protocol/));
{
	my $out = says([ hosted($conf{group}, $client) ], '-r', @name, $port);
	is(scalar(() = $out =~ /^ok group=tao_x25519\w* .* reused=0/mg), 2, 'what a channel left is not taken up again') or diag($out);
	records();
}

# --- the host has no answer, and no host at all

is_so('without tao.so\'s host, required', says([ $tool ], @name, @policy), $ok, done('web', 'server', qr/mode=none $suite/));
{
	my $r = run($tool, 'client', qw(-n b.test), $port, { timeout => 30, env => { %{ preload_env() }, OPENSSL_CONF => $conf{require}, OPENSSL_MODULES => module_dir() } });
	like($r->{out}, qr/^failed /, 'a process that tao run did not start, with a configuration that requires') or diag($r->{err});
}
$server->stop;
done_testing();
