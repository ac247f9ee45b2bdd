# Runs every C unit test and passes its TAP through. A program that is missing,
# dies or prints no plan fails.
use strict;
use warnings;

use File::Basename qw(basename);
use TAP::Parser;
use Test::More;
use TaoTest;

my @names = map { basename($_, '.c') } sort glob srctop() . '/test/unit/t_*.c';
plan skip_all => 'there are no unit tests' if !@names;
plan tests => scalar @names;

sub pass_through {
	my ($parser) = @_;
	while (my $result = $parser->next) {
		if ($result->is_test) {
			my $name = $result->description =~ s/^- //r;
			SKIP: {
				skip "$name: " . $result->explanation, 1 if $result->has_skip;
				ok($result->is_ok, $name);
			}
		} elsif ($result->is_comment || $result->is_unknown) {
			diag($result->as_string) if length $result->as_string;
		}
	}
	my @errors = $parser->parse_errors;
	is("@errors", '', 'a plan, and as many tests as it says');
}

for my $name (@names) {
	subtest $name => sub {
		my $r = run(bldtop() . "/test/unit/$name", { dir => tmpdir(), timeout => 300 });
		pass_through(TAP::Parser->new({ tap => "$r->{out}\n" }));
		is($r->{status}, 0, $r->{timeout} ? 'ended in time' : 'exit status') or diag($r->{err});
	};
}
