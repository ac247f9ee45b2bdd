# Small requests a second, one after the other, against as many bytes to and fro between two
# processes over a bare AF_UNIX stream, both on one CPU, which is where the host puts its worker.
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoTest;

my $ping = bldtop() . '/bench/tool/ping';
my @seconds = ('-s', 0.2);
my ($cpu) = slurp('/proc/self/status') =~ /^Cpus_allowed_list:\s*(\d+)/m;
my $host = start_host();
my $socket = $host->dir . '/run/tao.sock';

my ($ours, $bare) = interleave(15,
	sub { output(run($host->cmd('run', '--quiet', '--', $ping, @seconds, '-c', $cpu, 'host', $socket)), 'ping') + 0 },
	sub { output(run($ping, @seconds, '-c', $cpu, 'bare'), 'ping') + 0 });
emit('rpc-roundtrip', $ours, '1/s', $bare);
emit('rpc-roundtrip-time', 1e6 / $ours, 'us', 1e6 / $bare);
