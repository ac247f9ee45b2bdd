# Full TLS 1.3 handshakes a second of a server with a key in the host and tao_tls.so, which looks at
# each whether there is a newer certificate, against the same server without that module. Nothing is
# renewed meanwhile. -alone: against the module with renewal turned off, so what looking costs. -cpu,
# -alone-cpu: the CPU of a handshake, server and host.
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoKeyBench;
use TaoTest;

my $server = bldtop() . '/bench/tool/tls_server';

sub shown {
	my ($s) = @_;
	my $said = run(qw(openssl s_client -connect), "127.0.0.1:$s->{port}", { stdin => '' })->{out};
	return ($said =~ /(-----BEGIN.*?-----END CERTIFICATE-----\n)/s)[0] // die "a server shows no certificate\n";
}

# A server whose file has the certificate that its host has for it: so there is nothing to show instead. The name in
# it has the arguments too, so a first start has to find it out. Each has a host of its own, whose
# certificate is nobody else's.
sub unchanged {
	my ($name, $edit) = @_;
	my $host = sealed('p256', $server);
	my $cert = tmpdir() . "/cert-$name.pem";
	my $conf = spew(tmpdir() . "/$name.cnf", $edit->(slurp($host->dir . '/openssl.cnf')));
	my @cmd = ($host->cmd('run', '--quiet', '--openssl-conf', $conf, '--'), $server, $cert, stub($host));
	spew($cert, slurp(certificate($host)));
	server(@cmd)->{process}->stop;
	spew($cert, slurp(certificate($host)));
	my $s = server(@cmd);
	push @{ $s->{pids} }, keeper($host);
	return { %$s, cert => $cert, host => $host };
}

my @servers = (unchanged('with', sub { $_[0] }), unchanged('without', sub { $_[0] =~ s/^(?=tao_tls = )/#/mr }),
	unchanged('off', sub { $_[0] =~ s/^(path = .*tao\.so)$/$1\nrenew = 0/mr }));
my @loaded = map { $_->{host}->tao('doctor', $_->{pids}[0])->{out} =~ m{tao_tls\(5\) is in use} ? 1 : 0 } @servers;
die "tao_tls.so: @loaded\n" if "@loaded" ne '1 0 1';

my @rates = interleave(21, map { my $s = $_; sub { handshakes($s, 0.3, 4) } } @servers);
index(slurp($_->{cert}), shown($_)) == 0 or die "a certificate was renewed meanwhile\n" for @servers;
emit('renewal-unchanged', $rates[0], '1/s', $rates[1]);
emit('renewal-unchanged-cpu', cpu_us($servers[0]), 'us', cpu_us($servers[1]));
emit('renewal-unchanged-alone', $rates[0], '1/s', $rates[2]);
emit('renewal-unchanged-alone-cpu', cpu_us($servers[0]), 'us', cpu_us($servers[2]));
