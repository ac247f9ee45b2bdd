# The same tests on Debian 13, with OpenSSL 3.5, in a chroot: test/debian13.sh.
use strict;
use warnings;
use Test::More;
use TaoTest;

ok_run([srctop() . '/test/debian13.sh', '--help'], '--help');
fails_with([srctop() . '/test/debian13.sh', '--bogus'], qr/unknown option/, 'an unknown option');
my $mounts = slurp('/proc/self/mounts');

SKIP: {
	my ($version) = run('openssl', 'version')->{out} =~ /^OpenSSL (\d+\.\d+)/;
	skip "OpenSSL $version is here already", 1 if ($version // 0) >= 3.5;
	skip 'takes long and loads a Debian system: runtests --all runs it', 1 if !$ENV{TAO_TEST_ALL};
	skip 'the normal build runs it', 1 if config('TAO_ASAN');
	# Not --all: what takes long has had its turn here.
	my $r = run(srctop() . '/test/debian13.sh', { timeout => 3600 });
	skip $1, 1 if $r->{status} == 77 && $r->{out} =~ /^skipped: (.*)/m;
	ok($r->{status} == 0, 'the tests pass on Debian 13') or diag($r->{out}, $r->{err});
	like($r->{out}, qr/OpenSSL 3\.[5-9]/, 'with another OpenSSL');
}
is(slurp('/proc/self/mounts'), $mounts, 'nothing stays mounted');

done_testing();
