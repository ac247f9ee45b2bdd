# mandoc finds no fault with the manual pages.
use strict;
use warnings;

use File::Basename qw(basename);
use Test::More;
use TaoTest;

need_programs('mandoc');
my @pages = sort glob srctop() . '/man/*.[1-9]';
plan skip_all => 'there are no manual pages' if !@pages;
plan tests => scalar @pages;

for my $page (@pages) {
	my $r = run('mandoc', '-T', 'lint', '-W', 'warning', $page);
	ok($r->{status} == 0, basename($page)) or diag($r->{out}, $r->{err});
}
