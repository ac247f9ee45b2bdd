# TLS 1.3 handshakes by a Tao channel's pre-shared key (psk_dhe_ke), per second of server CPU, against
# the same server with a P-256 key and certificate in files.
#
# Server CPU is that of the server's process and of the host; the host's includes what it does for
# the clients, which are its programs as well. The first pair of lines is with libssl's usual group
# (group = no), the second with tao_x25519, as tao_tls does it when nothing is configured. -wall is the rate of all, clients
# included, as they share this machine's CPUs.
use strict;
use warnings;

use TaoBench;
use TaoChannelBench;
use TaoHostBench;
use TaoKeyBench;
use TaoTest;

my $host = channel_host();
my $file = in_file('p256');
my $theirs = server(bldtop() . '/bench/tool/tls_server', recertified($host, $file), $file);
for my $case ([ '', 'group = no' ], [ '-group' ]) {
	my ($name, @lines) = @$case;
	my $ours = channel_server($host, @lines);
	my @as = clients($host, @lines);
	@$theirs{qw(cpu handshakes)} = (0, 0);
	my @rates = interleave(21, sub { handshakes($ours, 0.3, 4, '-k', { as => \@as }) }, sub { handshakes($theirs, 0.3, 4) });
	emit("handshake-tls13-psk$name", 1e6 / cpu_us($ours), '1/s', 1e6 / cpu_us($theirs), bar => 1.2);
	emit("handshake-tls13-psk$name-wall", $rates[0], '1/s', $rates[1]);
	$ours->{process}->stop;
}
