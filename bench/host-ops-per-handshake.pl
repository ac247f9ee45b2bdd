# Requests to the host that a handshake of a running server and client waits for, both together: with a
# pre-shared key, with the group on top (whose nonces are drawn in batches), and by certificate.
# The baseline is what is meant to be: one a side for each of the first two, a signature for the third. Nobody waits for the
# audit record, which is one request a side and is not counted; of a domain nobody asks anything.
use strict;
use warnings;

use TaoBench;
use TaoChannelBench;
use TaoTest;

my $host = channel_host();
for my $case ([ '', 2, [ '-k' ], 'group = no' ], [ '-group', 4, [ '-k' ] ], [ '-cert', 1, [], 'mode = certificate' ]) {
	my ($name, $meant, $options, @lines) = @$case;
	my $ours = channel_server($host, @lines);
	my $channel = clients($ours, [ under($host, @lines) ], @$options, qw(-s 0.3 -j 1));
	my @pids = ($ours->{process}->pid, $channel->{process}->pid);
	turn($channel); # what is asked once, is
	my $before = requests($host, $pids[0]) + requests($host, $pids[1]);
	$ours->{handshakes} = 0;
	turn($channel) for 1 .. 3;
	my $each = (requests($host, $pids[0]) + requests($host, $pids[1]) - $before) / $ours->{handshakes};
	emit("host-ops-per-handshake$name", $each - 2, 'requests', $meant);
	$_->stop for $channel->{process}, $ours->{process};
}
