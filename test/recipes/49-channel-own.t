# Tao channels of programs that have something of their own for it: pre-shared keys, certificates that are
# asked for after the handshake, an info callback that comes late, an executable that is a copy; and what
# peers and files say that is not what it looks like.
use strict;
use warnings;

use IO::Handle;
use POSIX 'mkfifo';
use Test::More;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;

sub program {
	my ($name, $from) = @_;
	spew("$dir/$name", slurp($from) . $name);
	chmod 0755, "$dir/$name";
	return "$dir/$name";
}
my $default = $host->conf('default');
my $nopsk = $host->conf('nopsk', 'psk = no');
my $other = program('other', $openssl);
ok_run([ $host->cmd(qw(key new web --for), $openssl) ], 'a key');
ok_run([ $host->cmd('trust', $openssl, '--serves', 'a.test') ], 'of a server');
ok_run([ $host->cmd('trust', $other) ], 'and a program that serves nothing');
ok_run([ $host->cmd('connect', $openssl, $_) ], "which openssl may talk to: $_") for $openssl, $other;
ok_run([ $openssl, qw(req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=a.test -addext),
	'subjectAltName=DNS:a.test,DNS:b.test', '-keyout', "$dir/f.key", '-out', "$dir/f.crt" ], 'a stranger');
my @own = qw(-cert tao:web -key tao:web);
my @foreign = ('-cert', "$dir/f.crt", '-key', "$dir/f.key");

# Without -rev, s_server reads commands.
sub channel {
	my ($name) = @_;
	mkfifo("$dir/$name", 0600) && open(my $to, '+<', "$dir/$name") or die "$dir/$name: $!";
	$to->autoflush(1);
	return ("$dir/$name", $to);
}
my ($input, $commands) = channel('input');
my ($server, $port);
sub hosted { return $host->cmd(qw(run --quiet --openssl-conf), $_[0], '--', $_[1] // $openssl) }
sub serve {
	my ($run, @more) = @_;
	$server->stop if $server;
	$port = free_port();
	$server = spawn(@$run, 's_server', '-accept', "127.0.0.1:$port", @more, { stdin => $input });
	$server->wait_for_line(qr/^ACCEPT/m, 20) // diag($server->log);
}
sub client {
	my ($run, @more) = @_;
	my $r = run(@$run, qw(s_client -ign_eof -connect), "127.0.0.1:$port", @more, { stdin => "forward\nCLOSE\n", timeout => 20 });
	return "$r->{out}$r->{err}";
}
my $answered = qr/^drawrof$/m;
sub short { diag(join "\n", grep { length() > 0 && length() < 160 && !/^[A-Za-z0-9+\/=]{40,}$/ } split /\n/, $_[0]) }
sub talks { my ($t, $name) = @_; like($t, $answered, $name) or short($t) }
sub refused {
	my ($t, $why, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($t !~ $answered && "$t${\ $server->log}" =~ $why, $name) or short("$t\nserver:\n" . $server->log);
}

# --- pre-shared keys of its own

my @key = qw(-psk 0123456789abcdef);
my @suite = qw(-ciphersuites TLS_AES_128_GCM_SHA256); # which has the hash of such a key
my $demand = $host->conf('demand', 'demand = yes');
serve([ $openssl ], '-rev', @foreign, @key);
{
	my $t = client([ hosted($default) ], @key, @suite, qw(-servername b.test));
	talks($t, 'a program with a pre-shared key of its own, and a stranger who has it');
	like($t, qr/^Reused, TLSv1\.3/m, 'use it');
}
serve([ hosted($default) ], '-rev', @own, @key);
{
	my $t = client([ $openssl ], @key, @suite);
	talks($t, 'a server likewise');
	like($t, qr/^Reused, TLSv1\.3/m, 'with a stranger as client');
	talks(client([ $openssl ], @key, qw(-tls1_2 -cipher PSK)), 'and with TLS 1.2');
}
serve([ hosted($demand) ], '-rev', @own, @key);
refused(client([ $openssl ], @key, @suite), qr/alert certificate required/, 'but not one that demands a program\'s certificate');
refused(client([ $openssl ], @key, qw(-tls1_2 -cipher PSK)), qr/no shared cipher/, 'nor with TLS 1.2');
talks(client([ hosted($default) ], @key, qw(-servername a.test)), 'which talks to programs that have it');
serve([ hosted($default, $other) ], '-rev', '-nocert', @key);
refused(client([ hosted($default) ], @key, @suite, qw(-servername a.test)), qr/no suitable signature algorithm/,
	'a name that policy knows, and a program that has the key, but is not said to serve it');
talks(client([ hosted($default) ], @key, @suite, qw(-servername b.test)), 'another name is for the key to decide');

# --- a certificate that is asked for later

{
	my ($line, $to) = channel('line');
	my $session = "$dir/session";
	my $is = qr/role=server did=completed mode=group .*name=a\.test peer=\S*Measured/;
	my $records = sub { scalar(() = $host->tao('log')->{out} =~ /$is/mg) };
	my $before = $records->();
	serve([ hosted($nopsk) ], @own);
	my $c = spawn(hosted($nopsk), qw(s_client -enable_pha -servername a.test -sess_out), $session, '-connect', "127.0.0.1:$port",
		{ stdin => $line });
	ok($c->wait_for_line(qr/^Verify return code: 0/m, 20), 'a client that can be asked later') or short($c->log);
	print $commands "c\n";
	ok($server->wait_for_line(qr/SSL_do_handshake -> 1/, 20), 'and is') or short($server->log);
	print $to "hello\n";
	ok($server->wait_for_line(qr/^hello$/m, 20), 'goes on') or short($server->log);
	print $to "Q\n";
	$c->wait(20);
	like($server->log, qr/verify return:1/, 'it has shown a certificate');
	ok(!-s $session, 'which leaves no session behind that would outlive policy');
	ok(wait_for(sub { $records->() == $before + 2 }, 10), 'and has a record');
}

# --- early data, where libssl says in mid-handshake that it is done

{
	my $records = sub { my ($is) = @_; return scalar(() = $host->tao('log')->{out} =~ /role=server did=$is/mg) };
	for my $case ([ $default, 'psk', 'completed' ], [ $nopsk, 'group', 'completed' ], [ $nopsk, 'group', 'refused', '-CAfile', "$dir/f.crt", qw(-Verify 1 -verify_return_error) ]) {
		my ($conf, $mode, $did, @verify) = @$case;
		serve([ hosted($conf) ], '-early_data', @own, @verify);
		my @before = map { $records->($_) } "$did mode=$mode", 'completed', 'refused';
		run(hosted($conf), qw(s_client -servername a.test -connect), "127.0.0.1:$port", { stdin => "forward\n", timeout => 20 });
		my $good = wait_for(sub { $server->log =~ /^(?:forward|.*certificate verify failed.*)$/m }, 10) && $server->log =~ /^forward$/m ? 1 : 0;
		is($good, $did eq 'completed' ? 1 : 0, "a server that takes early data, with $mode: $did") or short($server->log);
		ok(wait_for(sub { $records->("$did mode=$mode") > $before[0] }, 10), 'has the record of that');
		is($records->('completed') + $records->('refused'), $before[1] + $before[2] + 1, 'and no other');
	}
}

# --- an info callback that comes in mid-handshake

{
	my ($tls, $odd) = (program('vserver', tool('tlspeer')), program('vclient', tool('tlspeer')));
	ok_run([ $host->cmd(qw(key new virtual --for), $tls) ], 'a key');
	ok_run([ $host->cmd('trust', $tls, '--serves', 'v.test') ], 'a server of virtual hosts');
	ok_run([ $host->cmd('trust', $odd) ], 'and its client');
	ok_run([ $host->cmd('connect', $odd, $tls) ], 'which may talk to it');
	run($host->cmd(qw(run --prepare), $tls));
	my @files = map { "$state/$_/$</virtual.pem" } qw(certs keys);
	for my $case ([ "$state/policy.pem", 1 ], [ "$dir/f.crt", 0 ]) {
		my ($ca, $good) = @$case;
		my $s = spawn(hosted($default, $tls), 'server', '-x', '-v', "v.test,$ca", @files);
		my $to = $s->wait_for_line(qr/^port (\d+)$/m, 30) // diag($s->log);
		my $r = run(hosted($default, $odd), qw(client -n v.test), $to, { timeout => 30 });
		is($r->{out} =~ /^ok .*reused=1/m ? 1 : 0, $good, 'a virtual host that demands certificates of ' .
			($good ? 'the domain' : 'another authority') . ', with an info callback that comes late') or diag($r->{out}, $s->log);
		$s->stop;
	}
}

# --- an executable that is a copy

{
	my $tls = "$dir/all";
	mkdir($tls) && chmod(01777, $tls) or die "$tls: $!";
	my $copied = "$tls/copied";
	spew($copied, slurp($openssl));
	chmod 0777, $copied;
	serve([ $openssl ], '-rev', @foreign);
	for my $name ('copied', $copied) {
		my $file = $host->conf('programs', 'programs = q', '[q]', "$name = its", '[its]', 'mode = require');
		my ($seen) = run(hosted($file, $copied), 'version')->{out} =~ /^OpenSSL/;
		ok($seen, "a program that others may write to");
		refused(client([ hosted($file, $copied) ], qw(-servername b.test)), qr/no suitable key share/, "has the settings of $name");
	}
	talks(client([ hosted($host->conf('programs', 'programs = q', '[q]', 'other = its', '[its]', 'mode = require'), $copied) ],
		qw(-servername b.test)), 'and not those of another');
}

# --- what a peer says of itself, in the log

serve([ hosted($default) ], '-rev', @own);
{
	my @names = ('a.test mode=psk peer=key([00])', "b\nc did=completed mode=psk", 'a "b" c: denied: d');
	client([ $openssl ], '-servername', $_) for @names;
	my @like = (qr/mode=none .* name="a\.test mode=psk peer=key\(\[00\]\)"/, qr/mode=none .* name="b\\x0ac did=completed mode=psk"/,
		qr/mode=none .* name="a ""b"" c: denied: d"/);
	for my $i (0 .. $#names) {
		my $log;
		ok(wait_for(sub { ($log = $host->tao('log')->{out}) =~ $like[$i] }, 10), 'a name that looks like the rest of a record') or diag($log);
	}
}
$server->stop;

done_testing();
