#!/usr/bin/perl
# usage: test/run.pl BUILD-TREE [RECIPE]...
# Runs under prove the recipes whose names have one of the given parts, or all.
# Fails if prove ran no test.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);

my ($build, @parts) = @ARGV;
die "usage: test/run.pl BUILD-TREE [RECIPE]...\n" if !defined $build || !-f "$build/config.h";
my $src = dirname(dirname(abs_path($0)));
$ENV{TAO_BUILD} = abs_path($build);
$ENV{TAO_SRC} = $src;
$ENV{TAO_VECTORS} = abs_path($ENV{TAO_VECTORS}) if -d ($ENV{TAO_VECTORS} // '');
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES OPENSSL_CONF OPENSSL_MODULES)};

chdir $src or die "test/run.pl: $src: $!\n";
my @recipes = sort glob 'test/recipes/*.t';
for my $part (@parts) {
	die "test/run.pl: no recipe matches '$part'\n" if !grep { index($_, $part) >= 0 } @recipes;
}
@recipes = grep { my $r = $_; !@parts || grep { index($r, $_) >= 0 } @parts } @recipes;
die "test/run.pl: there are no recipes\n" if !@recipes;
$ENV{PERL5LIB} = join ':', "$src/test/lib", $ENV{PERL5LIB} // ();
exec 'prove', '-j' . ($ENV{TAO_TEST_JOBS} || 2), '--harness', 'TaoHarness', @recipes
    or die "test/run.pl: prove: $! (Debian package perl)\n";
