# mandoc finds no fault with the manual pages, and provider-tao(7) has every reason that the provider
# gives, in its words.
use strict;
use warnings;

use File::Basename qw(basename);
use Test::More;
use TaoTest;

need_programs('mandoc');
my @pages = sort glob srctop() . '/man/*.[1-9]';
plan skip_all => 'there are no manual pages' if !@pages;

for my $page (@pages) {
	my $r = run('mandoc', '-T', 'lint', '-W', 'warning', $page);
	ok($r->{status} == 0, basename($page)) or diag($r->{out}, $r->{err});
}

my $man = slurp(srctop() . '/man/provider-tao.7') =~ s/\\\n//gr =~ s/\s+/ /gr =~ s/\\&//gr;
my $reasons = 0;
for my $source ('tao/err.c', 'provider/provider.c') {
	my $text = slurp(srctop() . "/$source");
	while ($text =~ /^\t\[(TAO_E\w+|PROV_R\w+) ?(?:- \w+)?\] =\s*((?:"[^"]*"\s*)+),$/mg) {
		my ($name, $reason) = ($1, join '', $2 =~ /"([^"]*)"/g);
		ok(index($man, "Dq $reason ") >= 0, "provider-tao(7) has $name") or diag($reason);
		$reasons++;
	}
}
cmp_ok($reasons, '>=', 35, 'all of them');

done_testing();
