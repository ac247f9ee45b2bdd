# Milliseconds from fork to end of a small program under tao run, measured before, against the
# program alone. -above is what tao run adds, against the two milliseconds that it may.
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoTest;

my $tool = bldtop() . '/bench/tool/run_above';
my $host = start_host();
my @run = $host->cmd('run', '--quiet', '--', '/bin/true');

my ($ours, $plain) = interleave(9,
	sub { output(run($tool, '-n', 15, @run), 'tao run') + 0 },
	sub { output(run($tool, '-n', 15, '/bin/true'), 'true') + 0 });
emit('run-above-exec', $ours, 'ms', $plain);
emit('run-above-exec-above', $ours - $plain, 'ms', 2, bar => 1);
