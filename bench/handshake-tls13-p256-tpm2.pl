# Full TLS 1.3 handshakes a second of openssl s_server with a P-256 key in a TPM, through tpm2-openssl
# and swtpm, against one with the same kind of key in a file. -host: with a key in the Tao host, against the
# one in the TPM. All three in turns.
use strict;
use warnings;

use TaoBench;
use TaoKeyBench;
use TaoTest;

my $openssl = '/usr/bin/openssl';
my $tpm = tpm('p256');
my $file = in_file('p256');
my $host = sealed('p256', $openssl);

sub s_server {
	my ($cert, $key, $env, @before) = @_;
	my $port = free_port();
	return server(@before, $openssl, 's_server', '-tls1_3', '-accept', "127.0.0.1:$port", '-cert', $cert, '-cert_chain', $cert,
		'-key', $key, qw(-www -num_tickets 0), { port => $port, env => $env });
}

my @servers = (
	s_server(recertified($host, $tpm->{key}, { env => $tpm->{env} }), $tpm->{key}, $tpm->{env}),
	s_server(certificate($host), stub($host), {}, $host->cmd('run', '--quiet', '--')),
	s_server(recertified($host, $file), $file, {}));
my ($in_tpm, $in_host, $in_file) = interleave(9, map { my $server = $_; sub { handshakes($server, 0.5, 2, '-a') } } @servers);
emit('handshake-tls13-p256-tpm2', $in_tpm, '1/s', $in_file);
emit('handshake-tls13-p256-tpm2-host', $in_host, '1/s', $in_tpm);
