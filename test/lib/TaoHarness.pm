package TaoHarness;

# prove's harness, which also lists the tests that were skipped and why, before
# the closing lines, and which takes a run without any test for a failure.

use strict;
use warnings;
use parent 'TAP::Harness';

sub runtests {
	my ($self, @tests) = @_;
	my @skipped;
	$self->callback(made_parser => sub {
		my ($parser, $job) = @_;
		my $name = ref $job->[0] ? $job->[1] : $job->[0];
		$name = $job->[1] if defined $job->[1];
		$parser->callback(ALL => sub {
			my ($line) = $_[0]->as_string =~ /^\s*ok\b(.*)$/ or return;
			my ($what, $why) = $line =~ /^[\s\d-]*(.*?)\s*#\s*skip\S*\s*(.*)$/i or return;
			push @skipped, length $what ? "$name: $what: $why" : "$name: $why";
		});
	});
	$self->{tao_skipped} = \@skipped;
	return $self->SUPER::runtests(@tests);
}

sub summary {
	my ($self, $aggregate, $interrupted) = @_;
	my %seen;
	my @skipped = grep { !$seen{$_}++ } @{ $self->{tao_skipped} };
	print map { "$_\n" } 'Skipped:', map { "  $_" } @skipped if @skipped;
	$self->SUPER::summary($aggregate, $interrupted);
	return if $aggregate->total;
	print STDERR "No test ran.\n";
	exit 1;
}

1;
