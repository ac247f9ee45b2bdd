# Signatures a second with a P-256 key in the host, against the same kind of key in a file.
#
# Three more figures come with it:
#   -time     one signature, the program and the host on one CPU: the difference is what
#             going through the host costs
#   -clients  two programs with keys in the host, against one with a file and two threads
use strict;
use warnings;

use TaoBench;
use TaoTest;

my $seconds = 0.5;
my $rounds = 7;

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
		$sum += $client->log;
	}
	return $sum;
}

# Pins processes, with all their threads, to these CPUs; returns where the first was.
sub pin {
	my ($cpus, @pids) = @_;
	my ($before) = output(run('taskset', '-cp', $pids[0]), 'taskset') =~ /: (\S+)$/;
	output(run('taskset', '-acp', $cpus, $_), 'taskset') for @pids;
	return $before;
}

sub host_pids {
	my ($keeper) = output($host->tao('status', '--json'), 'tao status') =~ /"pid": ?(\d+)/;
	return ($keeper);
}

output(run('openssl', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'group:P-256', '-out', $file),
	'openssl genpkey');
output($host->tao('key', 'new', 'bench', '--for', $loop), 'tao key new');
output($host->tao('trust', $loop), 'tao trust');

my ($ours, $theirs) = interleave($rounds, \&in_host, \&in_file);
emit('sign-p256-host', $ours, '1/s', $theirs);

($ours, $theirs) = interleave($rounds, \&two_clients, sub { in_file('-j', 2) });
emit('sign-p256-host-clients', $ours, '1/s', $theirs);

# What is started from here on inherits the one CPU.
my ($cpu) = pin(0, $$, host_pids()) =~ /^(\d+)/;
pin($cpu, $$, host_pids()) if $cpu != 0;
($ours, $theirs) = interleave($rounds, \&in_host, \&in_file);
emit('sign-p256-host-time', 1e6 / $ours, 'us', 1e6 / $theirs);
