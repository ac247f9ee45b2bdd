package TaoGroupBench;

# Handshakes with the group tao_x25519 against the same with X25519: one certificate with its key in a
# file, and server and clients under `tao run` in both cases, so that the group is all that differs. tao_tls
# is off: what policy on peers costs is measured elsewhere.
#
#   group_against_x25519(NAME, SERVER, CLIENT)  measures and prints; SERVER and CLIENT are what these have as
#       Groups. -cpu is the CPU that a handshake costs the server and the host, which works for
#       the client as well here.

use strict;
use warnings;

use Exporter 'import';
use TaoBench;
use TaoHostBench;
use TaoKeyBench;
use TaoTest;

our @EXPORT = qw(group_against_x25519);

my $seconds = 0.3;
my $rounds = 21;
my $clients = 4;

sub configuration {
	my ($host, $name, $groups) = @_;
	my $text = slurp($host->dir . '/openssl.cnf');
	$text =~ s/^(path = .*tao\.so)$/$1\nmode = off/m or die "no tao_tls in openssl.cnf\n";
	$text =~ s/^\[openssl_init\]\n/[openssl_init]\nssl_conf = ssl_section\n/m or die "no openssl_init in openssl.cnf\n";
	return spew(tmpdir() . "/$name.cnf",
		"$text\n[ssl_section]\nsystem_default = tls_section\n\n[tls_section]\nGroups = $groups\n");
}

sub group_against_x25519 {
	my ($name, $server_groups, $client_groups) = @_;
	my $host = start_host();
	my ($server, $client) = map { bldtop() . "/bench/tool/$_" } qw(tls_server tls_client);
	my $key = file_key(qw(-algorithm EC -pkeyopt group:P-256));
	my $cert = tmpdir() . '/cert.pem';
	output(run('openssl', qw(req -x509 -subj /CN=localhost -days 1 -key), $key, '-out', $cert), 'openssl req');
	output($host->tao('connect', $client, $server), 'tao connect');
	my @sides = map {
		my ($what, @groups) = @$_;
		my ($s, $c) = map { configuration($host, "$what$_", $groups[$_]) } 0, 1;
		my $started = server($host->cmd('run', '--quiet', '--openssl-conf', $s, '--'), $server, $cert, $key);
		push @{ $started->{pids} }, keeper($host);
		$started->{client} = [ $host->cmd('run', '--quiet', '--openssl-conf', $c, '--'), $client ];
		$started;
	} [ 'group', $server_groups, $client_groups ], [ 'x25519', 'X25519', 'X25519' ];
	my @rates = interleave($rounds, map { my $side = $_; sub { handshakes_of($side) } } @sides);
	emit($name, $rates[0], '1/s', $rates[1], bar => 0.92);
	emit("$name-cpu", cpu_us($sides[0]), 'us', cpu_us($sides[1]));
}

sub cpu_of {
	my $sum = 0;
	for my $pid (@_) {
		$sum += (split ' ', slurp($_))[0] for glob "/proc/$pid/task/*/schedstat";
	}
	return $sum / 1e9;
}

sub handshakes_of {
	my ($side) = @_;
	my $before = cpu_of(@{ $side->{pids} });
	my $rate = output(run(@{ $side->{client} }, '-s', $seconds, '-j', $clients, $side->{port}), 'tls_client') + 0;
	$side->{cpu} += cpu_of(@{ $side->{pids} }) - $before;
	$side->{handshakes} += $rate * $seconds;
	return $rate;
}

1;
