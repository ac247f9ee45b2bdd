# tao logic: the vectors both ways, the manual's examples, bad lines, limits, and streams.
use strict;
use warnings;

use Test::More;
use TaoTest;

my $tao = bin('tao');
my $dir = tmpdir();
my $max = 1 << 20; # bytes of a text or a binary form, as tao-logic(7) says

sub logic {
	my ($stdin, @args) = @_;
	return run($tao, 'logic', @args, { stdin => $stdin });
}

# What it prints for this input, and its exit status.
sub gives {
	my ($args, $stdin, $out, $status, $name) = @_;
	my $r = logic($stdin, @$args);
	my $same = ref $out ? $r->{out} =~ $out : $r->{out} eq $out;
	ok($same && $r->{status} == $status, $name)
	    or diag("exit status $r->{status}, wanted $status and $out\n", substr($r->{out}, 0, 2000));
	return $r;
}

# --- CloudProxy's own formulas

SKIP: {
	my $file = ($ENV{TAO_VECTORS} // '') . '/cloudproxy/formulas.tsv';
	skip 'TAO_VECTORS is not set, or has no formulas', 6 if !-e $file;
	my @rows = map { [ split /\t/ ] } split /\n/, slurp($file);
	is(scalar @rows, 80, '80 formulas');
	is(scalar(grep { @$_ == 3 } @rows), 80, 'of three columns');
	my ($text, $hex, $again) = map { my $i = $_; join '', map { "$_->[$i]\n" } @rows } 0 .. 2;
	gives(['encode'], $text, $hex, 0, 'encode gives their hex');
	gives(['decode'], $hex, $again, 0, 'decode gives their text');
	my @printed = split /\n/, logic($again, 'encode')->{out};
	is(scalar(grep { !/^error/ } @printed), 80, 'what is printed is read');
	gives(['decode'], join("\n", @printed), $again, 0, 'and printed the same');
}

# --- the manual

my ($examples) = slurp(srctop() . '/man/tao-logic.7') =~ /^\.Sh EXAMPLES\n(.*?)^\.Sh /ms;
my %example = $examples =~ /^([^ .\n].*)\n    ([0-9a-f]+)$/mg;
is(scalar keys %example, 7, 'tao-logic(7) has examples');
for my $text (sort keys %example) {
	gives(['encode'], $text, "$example{$text}\n", 0, "its $text");
}
my ($bad) = $examples =~ /^\$ printf .*\n((?:.+\n)+?)\.Ed/m;
gives(['encode'], "P(1)\nP(\n", $bad, 1, 'its bad line');
my ($bytes) = $examples =~ /byte by byte:\n\.Bd.*\n((?:.+\n)+?)\.Ed/;
my $spelt = join '', map { s/  +[a-zA-Z].*//r =~ s/ //gr } split /\n/, $bytes;
is($spelt, $example{'key([70]).Program([deadbeef]) speaksfor key([71])'}, 'byte by byte');

# --- kinds

my %kind = (
	'--term' => [ [ '"a"', '030161' ], [ '[]', '0400' ], [ '-1', '05ffffffffffffffffff01' ],
		[ 'X', '060158' ], [ 'ext.A()', '02110112014100' ], [ 'key([70])', '01036b65790401701100' ] ],
	'--principal' => [ [ 'tpm2([00]).A()', '010474706d32040100110112014100' ],
		[ 'key([70])', '01036b65790401701100' ] ],
);
for my $option (sort keys %kind) {
	for my $pair (@{ $kind{$option} }) {
		gives([ 'encode', $option ], "$pair->[0]\n", "$pair->[1]\n", 0, "$option $pair->[0]");
		gives([ 'decode', $option ], "$pair->[1]\n", "$pair->[0]\n", 0, 'and back');
	}
}
gives([ 'encode', '--principal' ], "\"a\"\nkey([70])\nP(1)\n",
	qr/^error: 1: .*\n01036b65790401701100\nerror: 3: .*\n$/, 1, 'a term is no principal');
gives([ 'decode', '--principal' ], "030161\n", qr/^error: 1: /, 1, 'nor is it in binary');
gives([ 'encode', '--term' ], "true\n", qr/^error: 1: /, 1, 'a formula is no term');
gives([ 'decode', '--term' ], "0801\n", qr/^error: 1: /, 1, 'nor in binary');
gives(['decode'], "030161\n", qr/^error: 1: /, 1, 'a term is no formula');
gives(['encode'], "key([70])\n", qr/^error: 1: /, 1, 'nor in text');
like(logic('', 'encode', '--term', '--principal')->{err}, qr/choose --term or --principal/, 'not both');
is(logic('', 'decode', 'file')->{status}, 2, 'no operands');

# --- lines

my $r = gives(['encode'], "true\nnonsense\n\nfalse", qr/^0801\nerror: 2: .+\nerror: 3: .+\n0800\n$/, 1,
	'bad and empty lines are answered in their place, the last needs no newline');
like($r->{err}, qr/^tao logic encode: some lines are wrong/, 'and it says so');
gives(['decode'], "0801\n08\n\n0800", qr/^true\nerror: 2: .+\nerror: 3: .+\nfalse\n$/, 1, 'the same in hex');
gives([$_], '', '', 0, "$_ nothing") for qw(encode decode);
gives(['encode'], "\n", qr/^error: 1: .+\n$/, 1, 'an empty line is no formula');
gives(['encode'], "true\r\nP(1)\r\n", "0801\n070150010501\n", 0, 'CRLF, text');
gives(['decode'], "0801\r\n070150010501\r\n", "true\nP(1)\n", 0, 'CRLF, hex');
gives(['decode'], "08\r01\n", qr/^error: 1: /, 1, 'but not within');
gives(['encode'], "  true \t\n", "0801\n", 0, 'space around a formula');
gives(['encode'], "true false\n", qr/^error: 1: column 6: /, 1, 'the whole line is one formula');
gives(['encode'], "true and false\n", "0a0208010800\n", 0, 'to its end');
for my $bad ('080', '0x0801', ' 0801', '0801 ', '08 01', '080A', 'zz', '08010', '080100', '0802', '088100') {
	gives(['decode'], "$bad\n", qr/^error: 1: .+\n$/, 1, "hex '$bad'");
}
for my $bad ('P([70 71])', 'P([ 70])', 'P({cB==})', 'P(ext)', 'true true', 'P (1)', 'P(+5)') {
	gives(['encode'], "$bad\n", qr/^error: 1: .+\n$/, 1, "text '$bad'");
}

# --- binary garbage: one printable line for each line

srand 3;
my $garbage = join '', map { chr int rand 256 } 1 .. 200_000;
my $lines = () = $garbage =~ /\n/g;
$lines++ if $garbage !~ /\n\z/;
for my $how (qw(encode decode)) {
	my $r = logic($garbage, $how);
	my @out = split /\n/, $r->{out};
	is(scalar @out, $lines, "$how: an answer for each line of garbage");
	is($r->{status}, 1, 'and exit status 1');
	is(scalar(grep { !/^error: \d+: [ -~]+$/ } @out), 0, 'all of them printable errors');
	is(scalar(grep { $out[$_] !~ /^error: @{[$_ + 1]}: / } 0 .. $#out), 0, 'with their numbers');
}
gives(['encode'], "true\0\ntrue\n", qr/^error: 1: .+\n0801\n$/, 1, 'a NUL does not end a line');
gives(['encode'], "P(\"\e[31m\x9b\")\n", qr/^error: 1: [ -~]+\n$/, 1, 'control characters do not come through');
gives(['decode'], "0701500103021b0a\n", "P(\"\\x1b\\n\")\n", 0, 'and are escaped in strings');

# --- limits

sub longest_line {
	my ($how, $good, $too_long, $want) = @_;
	my $r = logic("$good\n$too_long\n$good", $how);
	my @out = split /\n/, $r->{out};
	is(scalar @out, 3, "$how: three lines");
	ok($out[0] eq $want && $out[2] eq $want, 'of which those of the greatest length are read');
	like($out[1], qr/^error: 2: .*longer/, 'and the longer one is not');
}
my $room = $max - length 'P("")';
longest_line('encode', 'P("' . 'a' x $room . '")', 'P("' . 'a' x ($room + 1) . '")',
	'0701500103' . varint($room) . '61' x $room);
my $fit = $max - length("\x07\x01P\x01\x03") - 3;
longest_line('decode', '0701500103' . varint($fit) . '61' x $fit,
	'0701500103' . varint($fit + 1) . '61' x ($fit + 1), 'P("' . 'a' x $fit . '")');
gives(['encode'], 'not ' x 64 . "true\n", qr/^error: 1: .*deep/, 1, 'depth');
gives(['encode'], 'not ' x 63 . "true\n", '09' x 63 . "0801\n", 0, 'and just not too deep');
gives(['decode'], '09' x 64 . "0801\n", qr/^error: 1: .*deep/, 1, 'depth in hex');
gives(['decode'], '09' x 100_000 . "0801\n", qr/^error: 1: .*deep/, 1, 'any depth in hex');
gives(['decode'], "07015081808080808080808001\n", qr/^error: 1: /, 1, 'a huge count');

sub varint {
	my ($n) = @_;
	my $hex = '';
	for (; $n > 127; $n >>= 7) { $hex .= sprintf '%02x', $n & 127 | 128 }
	return $hex . sprintf '%02x', $n;
}

# --- streams

# Starts it with a pipe for standard input: its process id, the pipe, and the file it writes.
sub open_stream {
	my ($how) = @_;
	my $out = spew("$dir/$how.stream", '');
	my $pid = open my $in, '|-';
	die "fork: $!\n" if !defined $pid;
	if (!$pid) {
		open STDOUT, '>>', $out or die "$out: $!\n";
		open STDERR, '>', '/dev/null' or die "/dev/null: $!\n";
		exec $tao, 'logic', $how;
		die "exec: $!\n";
	}
	binmode $in;
	$in->autoflush(1);
	return ($pid, $in, $out);
}

sub most_memory { return slurp("/proc/$_[0]/status") =~ /^VmHWM:\s+(\d+) kB$/m ? $1 : die "no VmHWM\n" }

my ($pid, $in, $out) = open_stream('encode');
print $in "true\n";
is(wait_for(sub { slurp($out) }), "0801\n", 'a line is answered before the next one comes');
print $in "fal";
print $in "se\nP(";
is(wait_for(sub { my $t = slurp($out); $t =~ /\n.*\n/ && $t }), "0801\n0800\n", 'as soon as it is whole');
my $before = most_memory($pid);
my $line = 'P("' . 'x' x 100 . '", key([' . 'ab' x 32 . ']).Program([' . 'cd' x 32 . ']))';
my $hex = logic($line, 'encode')->{out};
print $in "1)\n";
print $in "$line\n" x 1000 for 1 .. 100;
my $size = 2 * 5 + length("070150010501\n") + 100_000 * length $hex;
wait_for(sub { -s $out == $size }, 60);
is(-s $out, $size, '100000 lines are answered');
SKIP: {
	skip 'sanitizers keep freed memory', 1 if config('TAO_ASAN');
	cmp_ok(most_memory($pid) - $before, '<', 1024, 'in no more memory than one (kB)');
}
close $in;
is($?, 0, 'and all are good');
my $answers = slurp($out);
ok($answers eq "0801\n0800\n070150010501\n" . $hex x 100_000, 'and as expected');
gives(['decode'], $hex x 100_000, "$line\n" x 100_000, 0, 'and 100000 back');

($pid, $in, $out) = open_stream('decode');
print $in '0' x $max for 1 .. 64;
print $in "\n0801\n";
wait_for(sub { slurp($out) =~ /true/ }, 60);
SKIP: {
	skip 'sanitizers keep freed memory', 1 if config('TAO_ASAN');
	cmp_ok(most_memory($pid), '<', 24 << 10, 'a line without end is not kept (kB)');
}
close $in;
is($? >> 8, 1, 'and is an error');
like(slurp($out), qr/^error: 1: .*longer.*\ntrue\n$/, 'in its place');

# --- output that cannot be written

SKIP: {
	skip 'there is no /dev/full', 2 if !-e '/dev/full';
	my $r = run('sh', '-c', "yes true | head -n 200000 | '$tao' logic encode > /dev/full");
	is($r->{status}, 1, 'a full disk is an error');
	like($r->{err}, qr/^tao logic encode: the output could not be written/m, 'that is told');
}

done_testing();
