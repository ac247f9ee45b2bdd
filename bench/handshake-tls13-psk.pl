# TLS 1.3 handshakes by a Tao channel's pre-shared key (psk_dhe_ke) per second of server CPU, against
# the same server with P-256 keys and certificates in files.
#
# The key tells each side who the other is. So certificates are shown, and verified by the server, on both
# sides of what it is compared with; -oneway is against the server's certificate alone, which tells the server
# nothing. Server CPU is that of the server's process and half of the host's: of the host's requests, each side
# makes as many as the other. The first figures are with libssl's usual group (group = no); -group is
# with tao_x25519 on top, which is what tao_tls does where nothing is configured. -wall is the rate of
# server and clients together, as they share this machine's CPUs.
use strict;
use warnings;

use TaoBench;
use TaoChannelBench;
use TaoHostBench;
use TaoKeyBench;
use TaoTest;

my $host = channel_host();
my $dir = tmpdir();
my $server = bldtop() . '/bench/tool/tls_server';
my $file = in_file('p256');
my @ec = qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2);
output(run('openssl', qw(req -x509 -subj /CN=ca -keyout), "$dir/ca.key", '-out', "$dir/ca.pem", @ec), 'a CA');
output(run('openssl', qw(req -x509 -subj /CN=client -keyout), "$dir/client.key", '-out', "$dir/client.crt", '-CA', "$dir/ca.pem",
	'-CAkey', "$dir/ca.key", @ec), 'a client certificate');
spew("$dir/client.pem", slurp("$dir/client.crt") . slurp("$dir/client.key"));

my @certified = ($server, recertified($host, $file), $file);
my ($mutual, $oneway) = (server(@certified, "$dir/ca.pem"), server(@certified));
my @common = qw(-s 0.3 -j 4);
my $both = clients($mutual, [], '-c', "$dir/client.pem", @common);
my $one = clients($oneway, [], @common);
for my $case ([ '', 'group = no' ], [ '-group' ]) {
	my ($name, @lines) = @$case;
	my $ours = channel_server($host, @lines);
	$ours->{halves} = [ pop @{ $ours->{pids} } ];
	my $channel = clients($ours, [ under($host, @lines) ], '-k', @common);
	@$_{qw(cpu handshakes)} = (0, 0) for $mutual, $oneway;
	my @rates = interleave(21, sub { turn($channel) }, sub { turn($both) }, sub { turn($one) });
	emit("handshake-tls13-psk$name", 1e6 / cpu_us($ours), '1/s', 1e6 / cpu_us($mutual), bar => 1.2);
	emit("handshake-tls13-psk$name-wall", $rates[0], '1/s', $rates[1]);
	emit("handshake-tls13-psk$name-oneway", 1e6 / cpu_us($ours), '1/s', 1e6 / cpu_us($oneway));
	$_->stop for $channel->{process}, $ours->{process};
}
