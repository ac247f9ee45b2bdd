# Pre-shared keys of Tao channels between OpenSSL with tao_tls and GnuTLS, which is given identity and
# secret by hand: the key schedule is that of RFC 8446, and not OpenSSL's own.
use strict;
use warnings;

use POSIX qw(mkfifo);
use Test::More;
use TaoRaw;
use TaoTest;

my ($cc) = slurp(bldtop() . '/Makefile') =~ /^CC = (.+)$/m;
my $flags = run(qw(pkg-config --cflags --libs gnutls));
plan(skip_all => 'the headers of GnuTLS are not installed (Debian package libgnutls28-dev)') if $flags->{status} != 0;
need_programs(split ' ', $cc);
my $dir = tmpdir();
my $gnutls = "$dir/gnutlspeer";
ok_run([ $cc, qw(-Wall -Wextra -Werror), srctop() . '/test/data/gnutlspeer.c', '-o', $gnutls, split ' ', $flags->{out} ], 'a peer with GnuTLS');

my $host = start_host();
my $conf = $host->conf('tao', 'group = no');
my ($peer) = (tool('tlspeer'));
my $asks = "$dir/asks"; # it asks the host for whom GnuTLS speaks
spew($asks, slurp(tool('rawclient')) . 'x');
chmod 0755, $asks;
ok_run([ $host->cmd(qw(key new web --for), $peer) ], 'a key');
ok_run([ $host->cmd('trust', $peer, qw(--serves a.test)) ], 'OpenSSL serves a name');
ok_run([ $host->cmd('trust', $asks, qw(--serves g.test)) ], 'GnuTLS another');
ok_run([ $host->cmd('connect', $asks, $peer) ], 'either may');
ok_run([ $host->cmd('connect', $peer, $asks) ], 'talk to the other');
ok_run([ $host->cmd(qw(run --prepare), $peer) ], 'files');

# --- who asks: it has to run while its peer asks for the same key

sub fifo {
	mkfifo($_[0], 0600) or die "$_[0]: $!\n";
	open my $in, '+<', $_[0] or die "$_[0]: $!\n";
	$in->autoflush;
	return $in;
}
my $in = fifo("$dir/ask");
my $asker = spawn($host->cmd('run', '--quiet', '--', $asks), $host->dir . '/run/tao.sock', { stdin => "$dir/ask" });
my $asked = 0;
sub ask {
	my $mark = 'mark' . $asked++;
	print $in map { "$_\n" } @_, "echo $mark";
	$asker->wait_for_line(qr/^$mark$/m, 30);
	return ($asker->log =~ /^((?:ok|err) .*)\n$mark$/m)[0];
}
ask('connect', 'identify');
my @run = $host->cmd(qw(run --quiet --openssl-conf), $conf, '--', $peer);

# --- GnuTLS as client

my $server = spawn(@run, 'server', $host->dir . "/certs/$</web.pem", $host->dir . "/keys/$</web.pem");
my $port = $server->wait_for_line(qr/^port (\d+)$/m, 30);
sub by_gnutls {
	my ($secret) = @_;
	my $answer = parse(ask(call('Tao.PskClient', field(1, 'a.test'), number(2, 0x0304), number(3, 1))));
	my @hex = map { unpack 'H*', $_ } $answer->{1}, $secret->($answer->{2});
	return run($gnutls, 'client', $port, 'a.test', { stdin => "$hex[0]\n$hex[1]\n", timeout => 30 })->{out};
}
like(by_gnutls(sub { $_[0] }), qr/^ok .*psk=1 extension=1$/m, 'GnuTLS as client, tao_tls as server') or diag($server->log);
ok(wait_for(sub { $server->log =~ /^ok .*reused=1 .*Measured/m }, 10), 'which knows the program') or diag($server->log);
like(by_gnutls(sub { "\0" x 32 }), qr/^failed/m, 'not with another secret');
$server->stop;

# --- GnuTLS as server

sub to_gnutls {
	my ($secret) = @_;
	my $at = free_port();
	unlink "$dir/key";
	my $key = fifo("$dir/key");
	my $s = spawn($gnutls, 'server', $at, { stdin => "$dir/key" });
	$s->wait_for_line(qr/^listening$/m, 20);
	my $c = spawn(@run, qw(client -n g.test -l TLS_AES_128_GCM_SHA256), $at);
	my $identity = $s->wait_for_line(qr/^identity ([0-9a-f]+)$/m, 20) // return ($s->log, $c->log);
	my $answer = parse(ask(call('Tao.PskServer', field(1, pack 'H*', $identity), number(2, 0x0304), number(3, 1))));
	print $key unpack('H*', $secret->($answer->{2} // '')), "\n";
	$_->wait(20) for $s, $c;
	return ($s->log, $c->log);
}
my ($s, $c) = to_gnutls(sub { $_[0] });
like($s, qr/^ok .*psk=1 extension=1$/m, 'GnuTLS as server, tao_tls as client') or diag($c);
like($c, qr/^ok .*reused=1 .*Measured/m, 'which knows the program');
($s, $c) = to_gnutls(sub { "\0" x 32 });
like($c, qr/^failed/m, 'not with another secret');
$asker->stop;
done_testing();
