# Milliseconds from fork to end of a program that uses OpenSSL and no Tao, with the host's
# openssl.cnf, against one that only activates the default provider. -above is what the host's adds,
# against the two tenths of a millisecond that it may.
use strict;
use warnings;

use TaoBench;
use TaoHostBench;
use TaoTest;

my $tools = bldtop() . '/bench/tool';
my @many = ("$tools/run_above", '-n', 100, "$tools/load_unused");
my $host = start_host();
my $plain = plain_conf();

sub load {
	my ($conf) = @_;
	return output(run(@many, { env => { OPENSSL_CONF => $conf } }), 'load_unused') + 0;
}

my ($ours, $floor) = interleave(15, sub { load($host->dir . '/openssl.cnf') }, sub { load($plain) });
emit('load-unused', $ours, 'ms', $floor);
emit('load-unused-above', $ours > $floor ? $ours - $floor : 1e-3, 'ms', 0.2, bar => 1);
