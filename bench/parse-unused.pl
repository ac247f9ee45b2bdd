# Microseconds to read a certificate and its public key in a program that uses OpenSSL and no Tao, with the host's
# openssl.cnf, against one that only activates the default provider. OpenSSL before 3.2 goes through
# the decoders of all providers for each certificate.
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoTest;

my $tool = bldtop() . '/bench/tool/parse_unused';
my $host = start_host();
my $dir = tmpdir();
my $plain = plain_conf();
output(run(qw(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 9 -keyout), "$dir/key",
	'-out', "$dir/cert", { stdin => '' }), 'openssl req');

sub parse {
	my ($conf) = @_;
	return output(run($tool, "$dir/cert", 3000, { env => { OPENSSL_CONF => $conf } }), 'parse_unused') + 0;
}

my ($ours, $floor) = interleave(15, sub { parse($host->dir . '/openssl.cnf') }, sub { parse($plain) });
emit('parse-unused', $ours, 'us', $floor);
