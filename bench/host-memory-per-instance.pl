# KiB that the host's memory (PSS) grows by one program that runs, and, -1000, by each of a
# thousand; against one page, as there is no floor but nothing.
use strict;
use warnings;

use JSON::PP;
use TaoBench;
use TaoHostBench;
use TaoTest;

my $many = $ENV{TAO_BENCH_QUICK} ? 100 : 1000;
my $host = start_host();
my $keeper = keeper($host);

sub pss { return (slurp("/proc/$keeper/smaps_rollup") =~ /^Pss:\s+(\d+)/m)[0] }

sub instances { return scalar @{ decode_json(output($host->tao(qw(--json ps)), 'tao ps')) } }

sub start {
	my ($n) = @_;
	my $script = 'n=$1; shift; while [ $n -gt 0 ]; do "$@" & n=$((n - 1)); [ $((n % 32)) = 0 ] && sleep 0.2; done; wait';
	my $before = instances();
	spawn('/bin/sh', '-c', $script, 'sh', $n, $host->cmd('run', '--quiet', '--', '/bin/sleep', '1000'));
	wait_for(sub { instances() == $before + $n }, 300) or die "$n programs did not start\n";
}

output($host->tao('run', '/bin/true'), 'tao run');
my $empty = pss();
start(1);
my $one = pss();
emit('host-memory-per-instance', $one > $empty ? $one - $empty : 1, 'KiB', 4);
start($many - 1);
emit("host-memory-per-instance-$many", (pss() - $empty) / $many, 'KiB', 4);
