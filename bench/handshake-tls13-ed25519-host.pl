# Full TLS 1.3 handshakes a second of one server process with a Ed25519 key in the host, against
# the same server with the same kind of key in a file.
#
# Server, clients and host share this machine's CPUs, and there are enough clients to keep
# them busy. Both certificates have the same names and extensions. -cpu is the CPU that a
# handshake costs the server and, where the key is in the host, the host.
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoKeyBench;
use TaoTest;

my $server = bldtop() . '/bench/tool/tls_server';
my $host = sealed('ed25519', $server);
my $ours = server($host->cmd('run', '--quiet', '--'), $server, certificate($host), stub($host));
push @{ $ours->{pids} }, keeper($host);
my $file = in_file('ed25519');
my $theirs = server($server, recertified($host, $file), $file);

my @rates = interleave(21, sub { handshakes($ours, 0.3, 4) }, sub { handshakes($theirs, 0.3, 4) });
emit('handshake-tls13-ed25519-host', $rates[0], '1/s', $rates[1]);
emit('handshake-tls13-ed25519-host-cpu', cpu_us($ours), 'us', cpu_us($theirs));
