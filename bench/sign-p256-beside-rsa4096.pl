# P-256 signatures a second of one program with a key in the host while others sign with RSA-4096
# keys in it, against the same without them. -2, -4: that many others; the first figure is with one.
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoTest;

my $seconds = 0.4;
my $loop = bldtop() . '/bench/tool/sign_loop';
my $host = start_host();
my @slow = ('key', 'new', 'rsa', '--for', $loop, '--type', 'rsa4096');
my $r = $host->tao(@slow);
cannot('this host makes no RSA-4096 keys') if $r->{status} != 0 && $r->{err} =~ /type is one of/;
output($r, 'tao key new');
output($host->tao('key', 'new', 'bench', '--for', $loop), 'tao key new');
my @run = $host->cmd('run', '--quiet', '--', $loop);

sub alone { return together([ @run, '-s', $seconds, 'tao:bench' ]) }

sub beside {
	my ($others) = @_;
	my @others = map { spawn(@run, '-s', 600, 'tao:rsa') } 1 .. $others;
	wait_for(sub { ($host->tao('ps')->{out} =~ tr/\n//) > $others }, 20);
	my $rate = alone();
	for my $other (@others) {
		kill 'KILL', -$other->pid;
		$other->stop('KILL');
	}
	return $rate;
}

for my $others (1, 2, 4) {
	my ($with, $without) = interleave(9, sub { beside($others) }, \&alone);
	emit('sign-p256-beside-rsa4096' . ($others > 1 ? "-$others" : ''), $with, '1/s', $without, bar => 0.8);
}
