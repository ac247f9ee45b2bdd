package TaoKeyBench;

# What the measurements of one type of key share: in the host, in a file, and in a TPM (swtpm, with
# tpm2-openssl). A type is p256, ed25519 or rsa2048.
#
#   sealed(TYPE, PROGRAM)        a new host with a key "bench" for that program, which serves localhost
#   stub(HOST), certificate(HOST)  that key's two files
#   in_file(TYPE)                a key in a file
#   recertified(HOST, KEY, {env})  a file with the certificate of HOST's key, for another key
#   tpm(TYPE)                    a TPM and a key in it: {key => FILE, env => {...} for who uses
#                                it}; ends the measurement where the packages are missing
#
#   signatures(SECONDS, THREADS, KEY, COMMAND...)  one turn of sign_loop, the command before it
#   server(COMMAND...)           a TLS server that prints its port, or with {port => N} one that
#                                listens there; add those who work for it to its {pids}
#   handshakes(SERVER, SECONDS, CLIENTS, OPTIONS...)  one turn of tls_client, counting the servers' CPU
#   cpu(PIDS...)                 CPU seconds that these processes have had
#   cpu_us(SERVER)               CPU of one of its handshakes so far

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use TaoBench;
use TaoHostBench;
use TaoTest;

our @EXPORT = qw(cpu sealed stub certificate in_file recertified tpm signatures server handshakes cpu_us);

my %genpkey = (
	p256 => [ '-algorithm', 'EC', '-pkeyopt', 'group:P-256' ],
	ed25519 => [ '-algorithm', 'ED25519' ],
	rsa2048 => [ '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048' ],
);
my %tpm_genpkey = (p256 => $genpkey{p256}, rsa2048 => [ '-algorithm', 'RSA', '-pkeyopt', 'bits:2048' ]);
my $modules = (glob '/usr/lib/*/ossl-modules')[0] // '/usr/lib/ossl-modules';

sub sealed {
	my ($type, $program) = @_;
	my $host = start_host();
	output($host->tao('key', 'new', 'bench', '--for', $program, '--type', $type), 'tao key new');
	output($host->tao('trust', $program, '--serves', 'localhost'), 'tao trust');
	output($host->tao('run', '--prepare', $program), 'tao run --prepare');
	return $host;
}

sub stub { return $_[0]->dir . "/keys/$</bench.pem" }
sub certificate { return $_[0]->dir . "/certs/$</bench.pem" }
sub in_file { return file_key(@{ $genpkey{ $_[0] } }) }

my $certificates = 0;

sub recertified {
	my ($host, $key, $opt) = @_;
	my $file = tmpdir() . '/cert' . $certificates++ . '.pem';
	return spew($file, output(run(bldtop() . '/bench/tool/recert', certificate($host), $key, $opt // {}), 'recert'));
}

# --- TPM

# What README and issues of tpm2-openssl 1.1 say is needed for TLS: its keys, and nothing else of it.
my $tpm_conf = <<'END';
openssl_conf = openssl_init
[openssl_init]
providers = provider_sect
alg_section = alg_sect
[provider_sect]
default = default_sect
tpm2 = default_sect
[default_sect]
activate = 1
[alg_sect]
default_properties = ?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes
END

# Two ports in a row: the TCTI takes the next one for its control channel.
sub two_ports {
	for (1 .. 100) {
		my $port = free_port();
		return ($port, $port + 1)
		    if $port < 65535 && IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $port + 1);
	}
	die "no two free ports\n";
}

sub tpm {
	my ($type) = @_;
	my ($swtpm) = grep { -x } qw(/usr/bin/swtpm /bin/swtpm);
	cannot('swtpm is not installed (Debian package swtpm)') if !$swtpm;
	cannot('there is no tpm2.so (Debian package tpm2-openssl)') if !-e "$modules/tpm2.so";
	my ($port, $ctrl) = two_ports();
	my $dir = tmpdir() . '/tpm';
	mkdir $dir;
	my $tpm = spawn($swtpm, qw(socket --tpm2 --tpmstate), "dir=$dir", '--server', "type=tcp,port=$port,bindaddr=127.0.0.1",
		'--ctrl', "type=tcp,port=$ctrl,bindaddr=127.0.0.1", '--flags', 'not-need-init,startup-clear');
	my $key = "$dir/key.pem";
	my %env = (OPENSSL_CONF => spew("$dir/tpm.cnf", $tpm_conf), TPM2OPENSSL_TCTI => "swtpm:host=127.0.0.1,port=$port");
	wait_for(sub { !$tpm->alive || IO::Socket::INET->new("127.0.0.1:$ctrl") }, 20);
	output(run(qw(/usr/bin/openssl genpkey -provider tpm2), @{ $tpm_genpkey{$type} }, '-out', $key,
		{ env => { TPM2OPENSSL_TCTI => $env{TPM2OPENSSL_TCTI} } }), 'openssl genpkey -provider tpm2');
	return { key => $key, env => \%env, pid => $tpm->pid };
}

# --- signatures

sub signatures {
	my ($seconds, $threads, $key, @more) = @_;
	my %opt = ref $more[-1] eq 'HASH' ? %{ pop @more } : ();
	return output(run(@more, bldtop() . '/bench/tool/sign_loop', '-s', $seconds, '-j', $threads, $key, \%opt), 'sign_loop') + 0;
}

# --- handshakes

sub server {
	my %opt = ref $_[-1] eq 'HASH' ? %{ pop @_ } : ();
	my $port = delete $opt{port};
	my $process = spawn(@_, \%opt);
	my $said = $process->wait_for_line(qr/^(?:port (\d+)|ACCEPT)$/m, 30);
	die "a server did not start\n" . $process->log if !defined $said;
	return { pids => [ $process->pid ], port => $port // $said, cpu => 0, handshakes => 0, process => $process };
}

# All threads.
sub cpu {
	my $sum = 0;
	for my $pid (@_) {
		$sum += (split ' ', slurp($_))[0] for glob "/proc/$pid/task/*/schedstat";
	}
	return $sum / 1e9;
}

# What both rate and CPU come from: the clients' work of one turn.
sub handshakes {
	my ($server, $seconds, $clients, @options) = @_;
	my $before = cpu(@{ $server->{pids} });
	my $rate = output(run(bldtop() . '/bench/tool/tls_client', '-s', $seconds, '-j', $clients, @options,
		$server->{port}), 'tls_client') + 0;
	$server->{cpu} += cpu(@{ $server->{pids} }) - $before;
	$server->{handshakes} += $rate * $seconds;
	return $rate;
}

sub cpu_us { return 1e6 * $_[0]{cpu} / $_[0]{handshakes} }

1;
