# P-256 signatures a second of 16 programs with one key in the host, against one program that
# signs with a file's key in as many threads as there are CPUs.
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoTest;

my $clients = 16;
my $loop = bldtop() . '/bench/tool/sign_loop';
my $file = file_key('-algorithm', 'EC', '-pkeyopt', 'group:P-256');
my $host = start_host();
output($host->tao('key', 'new', 'bench', '--for', $loop), 'tao key new');
my @in_host = $host->cmd('run', '--quiet', '--', $loop, '-s', 0.4, 'tao:bench');

my ($ours, $theirs) = interleave(9,
	sub { together(map { [ @in_host ] } 1 .. $clients) },
	sub { together([ $loop, '-s', 0.4, '-j', cpus(), $file ]) });
emit('sign-p256-host-16clients', $ours, '1/s', $theirs, bar => 0.7);
