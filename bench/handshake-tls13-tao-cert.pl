# Full TLS 1.3 handshakes a second with a program certificate of the Tao, policy being asked on both
# sides (mode = certificate), against a P-256 key and certificate in files without any of that.
use strict;
use warnings;

use TaoBench;
use TaoChannelBench;
use TaoKeyBench;
use TaoTest;

my @lines = ('mode = certificate');
my $host = channel_host();
my $file = in_file('p256');
my $ours = channel_server($host, @lines);
my $theirs = server(bldtop() . '/bench/tool/tls_server', recertified($host, $file), $file);
my @common = qw(-s 0.3 -j 4);
my @clients = (clients($ours, [ under($host, @lines) ], @common), clients($theirs, [], @common));

my @rates = interleave(21, map { my $c = $_; sub { turn($c) } } @clients);
emit('handshake-tls13-tao-cert', $rates[0], '1/s', $rates[1]);
emit('handshake-tls13-tao-cert-cpu', cpu_us($ours), 'us', cpu_us($theirs));
