# The main job and its three refusals, as ./quickstart shows them.
use strict;
use warnings;
use Test::More;
use TaoTest;

need_programs(qw(nginx curl openssl));
need_same_openssl('/usr/sbin/nginx', '/usr/bin/curl');
plan skip_all => 'the sanitizers\' shadow memory cannot be scanned for keys' if config('TAO_ASAN');

my $r = ok_run([srctop() . '/quickstart', '--no-install'], 'quickstart', { timeout => 300 });
my $out = $r->{out};
like($out, qr/nginx saw: OU=key\(.*Measured/, 'nginx saw the principal of curl');
like($out, qr/curl saw: .*OU = ?key\(.*Measured|curl saw: .*OU=key\(.*Measured/, 'curl saw that of nginx');
like($out, qr/certificate verify ok/, 'verified against the policy certificate');
my @saw = $out =~ /^ *(nginx saw: OU=key\(.*Measured)/mg;
is(scalar @saw, 3, 'three times: by certificate, group and PSK');
like($out, qr/group (?:X25519|0x11ec), reused: \.\n.*group 0xfe1[01], reused: \.\n.*group 0xfe1[01], reused: r\n/s, 'which nginx tells apart');
like($out, qr/role=client did=completed mode=psk.*\n.*role=server did=completed mode=psk/, 'as does the log')
	if $out !~ /role=server did=completed mode=psk.*\n.*role=client did=completed mode=psk/;
my ($curl) = $out =~ /nginx saw: OU=\S*Measured\(\[(\w+)/;
my ($nginx) = $out =~ /curl saw: .*Measured\(\[(\w+)/;
isnt($curl, $nginx, 'they are two programs');
like($out, qr/\(\d+\).*not started with 'tao run'.*start it as 'tao run/, 'curl outside tao run is refused, and told what to do');
like($out, qr/no certificate for key copy: the domain does not trust/, 'the copy gets no certificate');
like($out, qr/SSL_do_handshake.*sealed for another program/, 'and cannot use the first one\'s key');
my @scans = $out =~ /^ *process \d+: .*$/mg;
cmp_ok(scalar @scans, '>=', 3, 'master and workers were scanned');
is(scalar(grep { /big-endian\) 0 times, .*limbs\) 0 times, control [1-9]/ } @scans), scalar @scans,
	'none holds the private key, each holds the control');
like($out, qr/Nothing is left running/, 'it cleans up');
my ($scratch) = $out =~ m{(/tmp/tao-quickstart\.\w+)};
ok(!-e $scratch, 'its directory is gone');
my @left = grep { (readlink($_) // '') =~ /^\Q$scratch\E/ } glob('/proc/[0-9]*/exe');
is("@left", '', 'nothing of it is left running');

ok_run([srctop() . '/quickstart', '--help'], '--help');
fails_with([srctop() . '/quickstart', '--bogus'], qr/unknown option/, 'an unknown option');

# -- the scan finds a key that is there --

my $host = start_host();
my $dir = tmpdir();
ok_run([$host->cmd(qw(key new k --for /usr/bin/openssl))], 'a key');
my $holder = spawn(tool('keyscan-victim'), $host->dir . '/host/root.key', $host->passfile,
	$host->dir . "/keys/$>/k.pem");
ok($holder->wait_for_line(qr/ready/, 20), 'a process holds its scalar') or diag $holder->log;
my $scan = run(tool('keyscan'), $host->dir . '/host/root.key', $host->passfile,
	$host->dir . "/keys/$>/k.pem", 'planted-control', $holder->pid);
is($scan->{status}, 1, 'the scan fails');
like($scan->{out}, qr/big-endian\) [1-9]\d* times, .*limbs\) [1-9]\d* times/, 'and says where it is, in both orders');
$holder->stop;

done_testing();
