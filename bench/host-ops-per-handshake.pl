# Requests to the host that a handshake of a running server and client waits for, both together: with a
# pre-shared key; by the group, with certificates of both; with both key and group, which is what two programs
# have where nothing is configured; and by certificates alone.
# The baseline is what is meant to be: one a side for the key, one a side for the group, and one a side for the
# signature, of which a handshake with the key has none. The group's nonces are drawn 64 at a time, which adds a 64th.
# Nobody waits for the audit record, which is one request a side and is not counted. Of a domain nobody asks anything:
# the host makes no socket of a network.
use strict;
use warnings;

use TaoBench;
use TaoChannelBench;
use TaoTest;

my $host = channel_host();
my @cases = ([ '', 2, [ '-k' ], 'group = no' ], [ '-group', 4, [], 'psk = no', 'demand = yes' ], [ '-psk-group', 4, [ '-k' ] ],
	[ '-cert', 2, [], 'mode = certificate', 'demand = yes' ]);
for my $case (@cases) {
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
