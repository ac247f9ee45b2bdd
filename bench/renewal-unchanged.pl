# Full TLS 1.3 handshakes a second of a server with a key in the host and tao_tls.so, which looks at
# each whether there is a newer certificate, against the same server without that module. Nothing is
# renewed meanwhile. -cpu: the CPU of a handshake, server and host.
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoKeyBench;
use TaoTest;

my $server = bldtop() . '/bench/tool/tls_server';
my $host = sealed('p256', $server);
my $conf = $host->dir . '/openssl.cnf';
my $without = slurp($conf) =~ s/^tao_tls = .*\n//mr;
die "$conf does not name tao_tls\n" if $without eq slurp($conf);
spew(tmpdir() . '/without.cnf', $without);

# A server that shows from the start the certificate that the host has for it: the first start makes it.
sub unchanged {
	my ($file, $name) = @_;
	my $cert = spew(tmpdir() . "/$name.pem", slurp(certificate($host)));
	my @cmd = ($host->cmd('run', '--quiet', '--openssl-conf', $file, '--'), $server, $cert, stub($host));
	server(@cmd)->{process}->stop;
	spew($cert, slurp(certificate($host)));
	my $s = server(@cmd);
	my ($shown) = run(qw(openssl s_client -connect), "127.0.0.1:$s->{port}", { stdin => '' })->{out} =~ /(-----BEGIN.*?-----END)/s;
	die "$name: shows another certificate\n" if index(slurp($cert), $shown) != 0;
	push @{ $s->{pids} }, keeper($host);
	return $s;
}

my @servers = (unchanged($conf, 'with'), unchanged(tmpdir() . '/without.cnf', 'without'));
my @loaded = map { slurp("/proc/$_->{pids}[0]/maps") =~ /tao_tls\.so/ ? 1 : 0 } @servers;
die "tao_tls.so: @loaded\n" if "@loaded" ne '1 0';

my @rates = interleave(21, map { my $s = $_; sub { handshakes($s, 0.3, 4) } } @servers);
emit('renewal-unchanged', $rates[0], '1/s', $rates[1]);
emit('renewal-unchanged-cpu', cpu_us($servers[0]), 'us', cpu_us($servers[1]));
