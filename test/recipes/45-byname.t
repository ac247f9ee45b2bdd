# TAO-RAND and TAO-SECRET, chosen in a real openssl.cnf and by name, against the real host.
use strict;
use warnings;
use File::Copy qw(copy);
use IO::Handle;
use POSIX qw(mkfifo);
use Test::More;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $host = start_host();
my $dir = tmpdir();
my $state = $host->dir;

ok_run([$host->cmd(qw(key new web --for), $openssl)], 'a key');
ok_run([$host->cmd('trust', $openssl, '--serves', 'localhost')], 'trusted');
my $conf = slurp("$state/openssl.cnf");

# The host's configuration, with a random section of these lines.
sub configured {
	my ($name, @lines) = @_;
	my $text = $conf;
	$text =~ s/^(\[openssl_init\]\n)/$1random = random_sect\n/m or die "no [openssl_init]\n";
	return spew("$dir/$name.cnf", "$text\n[random_sect]\n" . join('', map { "$_\n" } @lines));
}

my $seeded = configured('seeded', 'seed = TAO-RAND');
sub seeded { return $host->cmd('run', '--quiet', '--openssl-conf', $seeded, '--', $openssl, @_) }
sub outside { return ([$openssl, @{ $_[0] }], $_[1], $_[2], { env => { %{ preload_env() }, OPENSSL_CONF => $_[3] } }) }

# -- TAO-RAND --

my @random = map { ok_run([seeded(qw(rand -hex 32))], 'openssl rand, seeded by the host')->{out} } 1, 2;
like($random[0], qr/^[0-9a-f]{64}$/, 'gives bytes');
isnt($random[0], $random[1], 'and others each time');
fails_with(outside([qw(rand -hex 32)], qr/not started with 'tao run'/, 'outside tao run there are none', $seeded));
my $r = run($openssl, qw(rand -hex 32), { env => { %{ preload_env() }, OPENSSL_CONF => "$state/openssl.cnf" } });
like($r->{out}, qr/^[0-9a-f]{64}$/, 'who did not choose it needs no tao run');

my $generator = configured('generator', 'random = TAO-RAND');
fails_with([$host->cmd('run', '--quiet', '--openssl-conf', $generator, '--', $openssl, qw(rand -hex 32))],
	qr/seeds OpenSSL's generators.*write 'seed = TAO-RAND'/, 'as the generator: the sentence');

like(ok_run([bin('tao'), 'conf', 'check', $seeded], 'tao conf check')->{out}, qr/seeded by the Tao host/,
	'knows what is seeded');
like(run(bin('tao'), 'conf', 'check', $generator)->{out}, qr/write 'seed = TAO-RAND'/, 'and what is wrong');
like(run(bin('tao'), 'conf', 'check', configured('typo', 'seed = TAO_RAND'))->{out}, qr/TAO_RAND is neither/,
	'also where OpenSSL is silent');

for my $version (qw(1_2 1_3)) {
	my $port = free_port();
	my $server = spawn(seeded('s_server', "-tls$version", '-accept', "127.0.0.1:$port",
		qw(-cert tao:web -key tao:web -rev -quiet)));
	my $said = '';
	wait_for(sub {
		$said = talk("seeded\n", qr/dedees$/, seeded('s_client', "-tls$version", '-connect', "127.0.0.1:$port",
			'-CAfile', "$state/policy.pem", qw(-verify_hostname localhost -verify_return_error -ign_eof)));
		return $said =~ /dedees/;
	}, 20);
	like($said, qr/dedees$/m, "TLS $version, both sides seeded by the host") or diag $said, $server->log;
	$server->stop;
}

# A program that needs its first random bytes when the host is gone. It reads
# its password first, which comes when the test gives it.
mkfifo("$dir/fifo", 0600) or die "mkfifo: $!\n";
chmod 0644, "$dir/fifo";
my $late = spawn(seeded(qw(enc -aes-256-cbc -pbkdf2 -in), $seeded, '-out', "$dir/encrypted", '-pass', "file:$dir/fifo"));
open my $fifo, '>', "$dir/fifo" or die "$dir/fifo: $!\n";
ok_run([$host->cmd('down')], 'the host ends');
print $fifo "password\n";
close $fifo;
is($late->wait(30), 1, 'the program then has no random bytes');
like($late->log, qr/not running/, 'and says why');
ok(!-s "$dir/encrypted" || slurp("$dir/encrypted") !~ /^Salted__.{9}/s, 'nothing was encrypted with weaker ones');
ok_run([$host->cmd('up', '--passphrase-file', $host->passfile)], 'the host is there again');
ok_run([seeded(qw(rand -hex 32))], 'and so are random bytes');

# -- TAO-SECRET --

sub secret {
	my ($program, $label, @opts) = @_;
	return $host->cmd('run', '--quiet', '--', $program, qw(kdf -keylen 32 -kdfopt), "label:$label",
		(map { ('-kdfopt', $_) } @opts), 'TAO-SECRET');
}

sub derived { return ok_run([secret(@_)], "a secret: @_")->{out} }

my $other = "$dir/openssl";
copy($openssl, $other) or die "$other: $!\n";
open my $more, '>>', $other or die "$other: $!\n";
print $more "\0";
close $more;
chmod 0755, $other;

my $disk = derived($openssl, 'disk');
like($disk, qr/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/m, 'it has 32 bytes');
is(derived($openssl, 'disk'), $disk, 'the same program gets the same');
isnt(derived($openssl, 'disc'), $disk, 'another label: another secret');
my $program = derived($openssl, 'disk', 'policy:program');
isnt($program, $disk, 'another policy: another secret');
isnt(derived($other, 'disk', 'policy:program'), $program, 'another program: another secret');
is(derived($other, 'disk', 'policy:host'), derived($openssl, 'disk', 'policy:host'), 'policy host: all the same');
is(ok_run([$host->cmd('run', '--quiet', '--', $openssl, qw(kdf -keylen 32 -kdfopt info:disk -kdfopt policy:program TAO-SECRET))],
	'info in the place of label')->{out}, $program, 'is the same');
is(ok_run([$host->cmd('run', '--quiet', '--', $openssl, qw(kdf -keylen 32 -kdfopt hexlabel:6469736b -kdfopt policy:program TAO-SECRET))],
	'octets in the place of text')->{out}, $program, 'are the same');
ok_run([$host->cmd('down')], 'down');
ok_run([$host->cmd('up', '--passphrase-file', $host->passfile)], 'up');
is(derived($openssl, 'disk', 'policy:program'), $program, 'the same after a restart of the host');

fails_with([secret($openssl, 'disk', 'policy:all')], qr/policy all is not known: use exact/, 'an unknown policy');
fails_with([secret($openssl, 'disk', 'policy:policy')], qr/policy refuses|Unseal/i, 'a label that no rule gives it');
fails_with([secret($openssl, "a\x01b")], qr/without control characters/, 'a label that is no text');
fails_with([secret($openssl, 'x' x 257)], qr/label has 1 to 256 bytes, not 257/, 'a label that is too long');
fails_with([secret($openssl, 'disk', 'info:disk')], qr/give one of them/, 'label and info');
fails_with([$host->cmd('run', '--quiet', '--', $openssl, qw(kdf -keylen 4097 -kdfopt label:disk TAO-SECRET))],
	qr/1 to 4096 bytes, not 4097/, 'too many bytes');
fails_with([$host->cmd('run', '--quiet', '--', $openssl, qw(kdf -keylen 32 TAO-SECRET))],
	qr/needs the parameter label/, 'no label');
fails_with(outside([qw(kdf -keylen 32 -kdfopt label:disk TAO-SECRET)], qr/not started with 'tao run'/,
	'outside tao run', "$state/openssl.cnf"));

done_testing();
