# Everything compiles without a warning, with gcc and with clang.
use strict;
use warnings;

use Test::More;
use TaoTest;

plan skip_all => 'the normal build looks for warnings' if config('TAO_ASAN');
my @compilers = qw(gcc clang);
plan tests => scalar @compilers;

for my $compiler (@compilers) {
	SKIP: {
		my $dir = tmpdir() . "/$compiler";
		mkdir $dir or die;
		skip "$compiler is not installed", 1 if run($compiler, '--version')->{status} != 0;
		my $r = run($^X, srctop() . '/Configure', "CC=$compiler", 'CFLAGS=-Werror', { dir => $dir });
		$r = run('make', '-s', '-k', '-j2', 'tests', 'benches', { dir => $dir, timeout => 900 })
		    if $r->{status} == 0;
		ok($r->{status} == 0, $compiler) or diag($r->{err});
	}
}
