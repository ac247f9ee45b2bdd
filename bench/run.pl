#!/usr/bin/perl
# usage: bench/run.pl [--quick] [NAME]...      (make bench BENCH='NAME...')
#
# Runs the measurements that are named, or all. One is bench/NAME.pl, or a
# program built from bench/NAME.c; programs that a measurement only uses are
# built from bench/tool/ and are not measurements. It prints one line,
#
#   name<TAB>value<TAB>unit<TAB>baseline<TAB>ratio
#
# where ratio 1 is equal to the baseline and more is better, and perhaps more
# figures of that form, named name-something. It runs what it compares in turns
# and gives medians: TaoBench.pm does that; --quick takes fewer turns. Exit status 77 says that it cannot
# run here, with the reason on standard error.
#
# Exits with 1 if a name is unknown, or a measurement failed or did not print its line.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);

my $src = $ENV{TAO_SRC} //= dirname(dirname(abs_path($0)));
my $build = $ENV{TAO_BUILD} //= "$src/build";
$ENV{PERL5LIB} = join ':', "$src/bench/lib", "$src/test/lib", $ENV{PERL5LIB} // ();
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES OPENSSL_CONF OPENSSL_MODULES)};
$| = 1;
if (@ARGV && $ARGV[0] eq '--quick') {
	$ENV{TAO_BENCH_QUICK} = 1;
	shift @ARGV;
}

my %command;
for my $file (glob "$src/bench/*.c") {
	my $name = basename($file, '.c');
	$command{$name} = [ "$build/bench/$name" ];
}
for my $file (glob "$src/bench/*.pl") {
	my $name = basename($file, '.pl');
	$command{$name} = [ $^X, $file ] if $name ne 'run';
}

sub measure {
	my ($name) = @_;
	if (!$command{$name}) {
		warn "bench: there is no '$name'; there are: @{[ sort keys %command ]}\n";
		return 0;
	}
	open my $out, '-|', @{ $command{$name} } or do {
		warn "bench: $name: cannot run it: $!\n";
		return 0;
	};
	my @lines = <$out>;
	close $out;
	if ($? >> 8 == 77) {
		warn "bench: $name: skipped\n";
		return 1;
	}
	my $number = qr/\d+(?:\.\d+)?/;
	my @figures = grep { /^\Q$name\E(-[\w-]+)?\t$number\t[^\t]+\t$number\t$number$/ } @lines;
	if ($? != 0 || !grep { /^\Q$name\E\t/ } @figures) {
		warn "bench: $name: ", $? != 0 ? "failed\n" : "printed no line of its own\n";
		return 0;
	}
	print @figures;
	return 1;
}

my $failed = grep { !measure($_) } @ARGV ? @ARGV : sort keys %command;
exit($failed ? 1 : 0);
