# Full TLS 1.3 handshakes a second of one server process with a P-256 key in the host, against
# the same server with the same kind of key in a file.
#
# Server, clients and host share this machine's CPUs, and there are enough clients to keep
# them busy. Both certificates have the same names and extensions. -cpu is the CPU that a
# handshake costs the server and, where the key is in the host, the host.
use strict;
use warnings;

use TaoBench;
use TaoTest;

my $seconds = 0.3;
my $rounds = 21;
my $clients = 4;

my $dir = tmpdir();
my $tools = bldtop() . '/bench/tool';

sub output {
	my ($r, $what) = @_;
	die "$what: exit status $r->{status}\n$r->{out}$r->{err}" if $r->{status} != 0;
	return $r->{out};
}

sub server {
	my $process = spawn(@_);
	my $port = $process->wait_for_line(qr/^port (\d+)$/, 30);
	die "a server did not start\n" . $process->log if !defined $port;
	return { pids => [ $process->pid ], port => $port, cpu => 0, handshakes => 0 };
}

# CPU seconds that these processes have had, all threads.
sub cpu {
	my $sum = 0;
	for my $pid (@_) {
		$sum += (split ' ', slurp($_))[0] for glob "/proc/$pid/task/*/schedstat";
	}
	return $sum / 1e9;
}

# What both rate and CPU come from: the clients' work of one turn.
sub turn {
	my ($server) = @_;
	my $before = cpu(@{ $server->{pids} });
	my $rate = output(run("$tools/tls_client", '-s', $seconds, '-j', $clients, $server->{port}),
		'tls_client') + 0;
	$server->{cpu} += cpu(@{ $server->{pids} }) - $before;
	$server->{handshakes} += $rate * $seconds;
	return $rate;
}

sub cpu_us { return 1e6 * $_[0]{cpu} / $_[0]{handshakes} }

my $host = start_host();
my @certificates = ($host->dir . "/certs/$</bench.pem", "$dir/file.crt");
my @keys = ($host->dir . "/keys/$</bench.pem", "$dir/file.key");

output($host->tao('key', 'new', 'bench', '--for', "$tools/tls_server"), 'tao key new');
output($host->tao('trust', "$tools/tls_server", '--serves', 'localhost'), 'tao trust');
my $ours = server($host->cmd('run', "$tools/tls_server", $certificates[0], $keys[0]));

output(run('openssl', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'group:P-256', '-out', $keys[1]),
	'openssl genpkey');
spew($certificates[1], output(run("$tools/recert", $certificates[0], $keys[1]), 'recert'));
my $theirs = server("$tools/tls_server", $certificates[1], $keys[1]);

my ($keeper) = output($host->tao('status', '--json'), 'tao status') =~ /"pid": ?(\d+)/;
push @{ $ours->{pids} }, $keeper;

my @rates = interleave($rounds, sub { turn($ours) }, sub { turn($theirs) });
emit('handshake-tls13-p256-host', $rates[0], '1/s', $rates[1]);
emit('handshake-tls13-p256-host-cpu', cpu_us($ours), 'us', cpu_us($theirs));
