# TLS 1.3 handshakes by a Tao channel's pre-shared key (psk_dhe_ke) per second of server CPU, against
# the same server with a P-256 key and certificate in files.
#
# Server CPU is that of the server's process and all of the host's, which works for the clients as well:
# they are its programs. The first figures are with libssl's usual group (group = no); -group is
# with tao_x25519 on top, which is what tao_tls does where nothing is configured. -wall is the rate of
# server and clients together, as they share this machine's CPUs.
use strict;
use warnings;

use TaoBench;
use TaoChannelBench;
use TaoKeyBench;
use TaoTest;

my $host = channel_host();
my $file = in_file('p256');
my $theirs = server(bldtop() . '/bench/tool/tls_server', recertified($host, $file), $file);
my @common = qw(-s 0.3 -j 4);
my $plain = clients($theirs, [], @common);
for my $case ([ '', 'group = no' ], [ '-group' ]) {
	my ($name, @lines) = @$case;
	my $ours = channel_server($host, @lines);
	my $channel = clients($ours, [ under($host, @lines) ], '-k', @common);
	@$theirs{qw(cpu handshakes)} = (0, 0);
	my @rates = interleave(21, sub { turn($channel) }, sub { turn($plain) });
	emit("handshake-tls13-psk$name", 1e6 / cpu_us($ours), '1/s', 1e6 / cpu_us($theirs), bar => 1.2);
	emit("handshake-tls13-psk$name-wall", $rates[0], '1/s', $rates[1]);
	$_->stop for $channel->{process}, $ours->{process};
}
