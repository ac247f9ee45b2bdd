package TaoBench;

# For the measurements under bench/.
#
#   my ($ours, $theirs) = interleave(ROUNDS, \&a, \&b);
#       calls both once without counting, then in turns (a b, b a, a b, ...), ROUNDS times each, and
#       gives the medians of what they returned. So whatever else the machine does hits both.
#   rate(SECONDS, \&work)
#       calls work, which returns how much it did, until that time has passed: units a second
#   emit(NAME, VALUE, UNIT, BASELINE, [bar => RATIO])
#       prints the line; on standard error how far the rounds of the last interleave() were apart
#       (half of them are within that, either way), and if the ratio is below the bar. Units that end in "/s" are rates: more is better, the ratio is
#       value/baseline. Others are times or CPU: less is better, it is baseline/value.
#   cannot(REASON)
#       ends: this cannot be measured here

# With TAO_BENCH_QUICK (run.pl --quick) there are a third of the rounds: good for a look only.

use strict;
use warnings;

use Exporter 'import';
use Time::HiRes qw(time);

our @EXPORT = qw(interleave median rate emit cannot);

my @spread;

# Half the distance between the quartiles, of the median.
sub spread {
	my @sorted = sort { $a <=> $b } @_;
	my $middle = median(@sorted);
	return $middle > 0 ? ($sorted[ $#sorted * 3 / 4 ] - $sorted[ $#sorted / 4 ]) / 2 / $middle : 0;
}

sub median {
	my @sorted = sort { $a <=> $b } @_;
	die "median of nothing\n" if !@sorted;
	return ($sorted[ $#sorted / 2 ] + $sorted[ @sorted / 2 ]) / 2;
}

sub interleave {
	my ($rounds, @subs) = @_;
	my @results = map { [] } @subs;
	$rounds = 3 + int $rounds / 3 if $ENV{TAO_BENCH_QUICK} && $rounds > 4;
	$_->() for @subs;
	for my $round (1 .. $rounds) {
		my @order = $round % 2 ? 0 .. $#subs : reverse 0 .. $#subs;
		push @{ $results[$_] }, $subs[$_]->() for @order;
	}
	@spread = map { spread(@$_) } @results;
	return map { median(@$_) } @results;
}

sub rate {
	my ($seconds, $work) = @_;
	my ($start, $done, $now) = (time, 0);
	do {
		$done += $work->();
		$now = time;
	} while ($now - $start < $seconds);
	return $done / ($now - $start);
}

sub number {
	my ($n) = @_;
	return sprintf "%.0f", $n if $n >= 1000;
	return $n >= 1 ? sprintf("%.4g", $n) : sprintf("%.9f", $n);
}

sub emit {
	my ($name, $value, $unit, $baseline, %opt) = @_;
	die "$name: nothing was measured\n" if $value <= 0 || $baseline <= 0;
	my $ratio = $unit =~ m{/s$} ? $value / $baseline : $baseline / $value;
	printf "%s\t%s\t%s\t%s\t%.3f\n", $name, number($value), $unit, number($baseline), $ratio;
	printf STDERR "%s: spread %s\n", $name, join ', ', map { sprintf '%.1f %%', 100 * $_ } @spread if @spread;
	printf STDERR "%s: ratio %.3f misses the bar of %s\n", $name, $ratio, $opt{bar}
	    if defined $opt{bar} && $ratio < $opt{bar};
}

sub cannot {
	my ($reason) = @_;
	print STDERR "$reason\n";
	exit 77;
}

1;
