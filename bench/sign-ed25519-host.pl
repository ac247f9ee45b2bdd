# Signatures a second with an Ed25519 key in the host, against the same kind of key in a file, in one
# thread. -2threads: the same in two threads of one program each.
use strict;
use warnings;

use TaoBench;
use TaoKeyBench;
use TaoTest;

my $file = in_file('ed25519');
my $host = sealed('ed25519', bldtop() . '/bench/tool/sign_loop');
my @run = $host->cmd('run', '--quiet', '--');

for my $threads (1, 2) {
	my ($ours, $theirs) = interleave(15, sub { signatures(0.25, $threads, 'tao:bench', @run) },
		sub { signatures(0.25, $threads, $file) });
	emit('sign-ed25519-host' . ($threads > 1 ? "-${threads}threads" : ''), $ours, '1/s', $theirs);
}
