# Signatures a second with a P-256 key in the host, against the same kind of key in a file, in one
# thread.
#
# More figures come with it:
#   -2threads  the same in two threads of one program each
#   -clients   two programs with keys in the host, against one with a file and two threads
#   -time      one signature, program and host on one CPU: the difference is what going
#              through the host costs
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoKeyBench;
use TaoTest;

my $seconds = 0.25;
my $rounds = 15;

my $loop = bldtop() . '/bench/tool/sign_loop';
my $file = in_file('p256');
my $host = sealed('p256', $loop);
my @run = $host->cmd('run', '--quiet', '--');

sub in_host { return signatures($seconds, $_[0] // 1, 'tao:bench', @run) }
sub beside { return signatures($seconds, $_[0] // 1, $file) }

# All this does from here on, and the host, is on one CPU.
sub share_one_cpu {
	my ($cpu) = slurp('/proc/self/status') =~ /^Cpus_allowed_list:\s*(\d+)/m;
	output(run('taskset', '-acp', $cpu, $_), 'taskset') for $$, keeper($host);
}

my ($ours, $theirs) = interleave($rounds, \&in_host, \&beside);
emit('sign-p256-host', $ours, '1/s', $theirs);

($ours, $theirs) = interleave($rounds, sub { in_host(2) }, sub { beside(2) });
emit('sign-p256-host-2threads', $ours, '1/s', $theirs);

($ours, $theirs) = interleave($rounds, sub { together(map { [ @run, $loop, '-s', $seconds, 'tao:bench' ] } 1, 2) },
	sub { beside(2) });
emit('sign-p256-host-clients', $ours, '1/s', $theirs);

share_one_cpu();
($ours, $theirs) = interleave($rounds, \&in_host, \&beside);
emit('sign-p256-host-time', 1e6 / $ours, 'us', 1e6 / $theirs);
