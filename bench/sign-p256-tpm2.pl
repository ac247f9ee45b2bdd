# Signatures a second with a P-256 key in a TPM, through tpm2-openssl and swtpm, against the same kind
# of key in a file. -host: a key in the Tao host, against the one in the TPM. One thread, all three in turns.
# swtpm is a program, and faster than TPMs are.
use strict;
use warnings;

use TaoBench;
use TaoKeyBench;
use TaoTest;

my $tpm = tpm('p256');
my $file = in_file('p256');
my $host = sealed('p256', bldtop() . '/bench/tool/sign_loop');

my ($in_tpm, $in_host, $in_file) = interleave(9,
	sub { signatures(0.3, 1, $tpm->{key}, { env => $tpm->{env} }) },
	sub { signatures(0.3, 1, 'tao:bench', $host->cmd('run', '--quiet', '--')) },
	sub { signatures(0.3, 1, $file) });
emit('sign-p256-tpm2', $in_tpm, '1/s', $in_file);
emit('sign-p256-tpm2-host', $in_host, '1/s', $in_tpm);
