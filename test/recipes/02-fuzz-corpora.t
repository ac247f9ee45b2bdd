# Every fuzz target has a corpus and runs through it unharmed.
use strict;
use warnings;

use Test::More;
use TaoTest;

my @names = map { m{/fuzz_(\w+)\.c$} } sort glob srctop() . '/fuzz/fuzz_*.c';
plan skip_all => 'there are no fuzz targets' if !@names;
plan tests => scalar @names;

for my $name (@names) {
	my $corpus = srctop() . "/fuzz/corpus/$name";
	my $r = run(bldtop() . "/fuzz/replay_$name", $corpus, { dir => tmpdir(), timeout => 600 });
	my ($count) = $r->{out} =~ /^(\d+) inputs$/m;
	ok($r->{status} == 0 && $count, "$name: " . ($count // 'no') . ' inputs') or diag($r->{out}, $r->{err});
}
