package TaoHostBench;

# What the measurements of the host share.
#
#   output(RESULT, WHAT)         standard output of run(), or dies
#   together(COMMANDS...)        starts these commands (array references) at once, waits for
#                                all, and returns the sum of the numbers that they print
#   keeper(HOST)                 process id of the host that answers
#   cpus()                       how many there are
#   file_key(TYPE...)            a key in a file, made by openssl genpkey with these options
#   plain_conf()                 a file that is an openssl.cnf with the default provider alone

use strict;
use warnings;

use Exporter 'import';
use TaoTest;

our @EXPORT = qw(output together keeper cpus file_key plain_conf);

my $files = 0;

sub output {
	my ($r, $what) = @_;
	die "$what: exit status $r->{status}\n$r->{out}$r->{err}" if $r->{status} != 0;
	return $r->{out};
}

sub together {
	my $sum = 0;
	for my $client (map { spawn(@$_) } @_) {
		my $status = $client->wait(120) // 'none';
		die "a client: exit status $status\n" . $client->log if $status ne '0';
		$sum += ($client->log =~ /^([\d.]+)$/m)[0];
	}
	return $sum;
}

sub keeper {
	my ($host) = @_;
	return (output($host->tao('status', '--json'), 'tao status') =~ /"pid": ?(\d+)/)[0];
}

sub cpus {
	my $n = () = slurp('/proc/cpuinfo') =~ /^processor\s/mg;
	return $n || 1;
}

sub file_key {
	my $file = tmpdir() . '/key' . $files++ . '.pem';
	output(run('openssl', 'genpkey', @_, '-out', $file), 'openssl genpkey');
	return $file;
}

sub plain_conf {
	return spew(tmpdir() . '/plain.cnf', <<'END');
openssl_conf = openssl_init
[openssl_init]
providers = provider_sect
[provider_sect]
default = default_sect
[default_sect]
activate = 1
END
}

1;
