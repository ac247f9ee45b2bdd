# Signatures a second with a P-256 key in the host, against the same kind of key in a file.
#
# Two more figures come with it:
#   -clients  two programs with keys in the host, against one with a file and two threads
#   -time     one signature, program and host on one CPU: the difference is what going
#             through the host costs
use strict;
use warnings;

use TaoBench;
use TaoTest;

my $seconds = 0.25;
my $rounds = 15;

my $loop = bldtop() . '/bench/tool/sign_loop';
my $file = tmpdir() . '/file.pem';

sub output {
	my ($r, $what) = @_;
	die "$what: exit status $r->{status}\n$r->{out}$r->{err}" if $r->{status} != 0;
	return $r->{out};
}

sub in_file {
	my (@options) = @_;
	return output(run($loop, '-s', $seconds, @options, $file), 'a key in a file') + 0;
}

my $host = start_host();
my @in_host = $host->cmd('run', $loop, '-s', $seconds, 'tao:bench');

sub in_host {
	return output(run(@in_host), 'a key in the host') + 0;
}

# Both at once; their rates added up.
sub two_clients {
	my @clients = map { spawn(@in_host) } 1 .. 2;
	my $sum = 0;
	for my $client (@clients) {
		my $status = $client->wait(30) // 'none';
		die "a client: exit status $status\n" . $client->log if $status ne '0';
		$sum += ($client->log =~ /^([\d.]+)$/m)[0];
	}
	return $sum;
}

# All this does from here on, and the host, is on one CPU.
sub share_one_cpu {
	my ($cpu) = slurp('/proc/self/status') =~ /^Cpus_allowed_list:\s*(\d+)/m;
	my ($keeper) = output($host->tao('status', '--json'), 'tao status') =~ /"pid": ?(\d+)/;
	output(run('taskset', '-acp', $cpu, $_), 'taskset') for $$, $keeper;
}

output(run('openssl', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'group:P-256', '-out', $file),
	'openssl genpkey');
output($host->tao('key', 'new', 'bench', '--for', $loop), 'tao key new');
output($host->tao('trust', $loop), 'tao trust');

my ($ours, $theirs) = interleave($rounds, \&in_host, \&in_file);
emit('sign-p256-host', $ours, '1/s', $theirs);

($ours, $theirs) = interleave($rounds, \&two_clients, sub { in_file('-j', 2) });
emit('sign-p256-host-clients', $ours, '1/s', $theirs);

share_one_cpu();
($ours, $theirs) = interleave($rounds, \&in_host, \&in_file);
emit('sign-p256-host-time', 1e6 / $ours, 'us', 1e6 / $theirs);
