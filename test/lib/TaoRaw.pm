package TaoRaw;

# Requests to a host byte by byte, through test/tool/rawclient: for recipes that test what a
# program may send and what comes back.
#
#   raw_use(HOST)            the host of start_host() that is talked to
#   outside(COMMANDS)        commands of rawclient, outside `tao run`: its lines
#   hosted(COMMANDS)         the same inside it
#   run_as(PROGRAM, UID, COMMANDS)  ... as that copy of rawclient, and that user (undef: this one)
#   converse(CMD...)         starts rawclient by that command and talks to it while it runs: {process}
#   ask(IT, COMMANDS)        the lines that these commands print
#   finish(IT)               tells it no more, and waits for its end
#   field(N, BYTES) number(N, V)    fields of a protocol buffer; call(OP, FIELDS...) is a command
#   varint(V) hex_of(BYTES)  what they are made of
#   parse(LINE)              an answer's fields by their number
#   every(LINE, N)          all values of that field
#   code(LINE)               an answer's error, 0 for none
#   answers(CODE, NAME, LINES)      a test: the last line is that
#   bytes(COMMANDS)          what rawclient prints that needs no host
#   encoded(KIND, TEXT) name_of(LINE)  principals and formulas: to binary, from an answer

use strict;
use warnings;

use Exporter 'import';
use IO::Handle;
use POSIX qw(mkfifo);
use Test::More ();
use TaoTest;

our @EXPORT = qw(raw_use outside hosted run_as field number call parse every code answers encoded name_of);
our @EXPORT_OK = qw(converse ask finish varint hex_of bytes);

my $host;
my $talks = 0;

sub raw_use { ($host) = @_ }

sub socket_path { return $host->dir . '/run/tao.sock' }

sub lines { return split /\n/, $_[0]{out} }

sub outside {
	return lines(run(tool('rawclient'), socket_path(), { stdin => join("\n", @_) . "\n", timeout => 120 }));
}

sub run_as {
	my ($program, $uid, @commands) = @_;
	my @cmd = ($host->cmd('run', '--quiet', '--', $program), socket_path());
	unshift @cmd, 'setpriv', "--reuid=$uid", "--regid=$uid", '--clear-groups' if defined $uid;
	my $r = run(@cmd, { stdin => join("\n", @commands) . "\n", timeout => 120 });
	Test::More::diag("rawclient: $r->{err}") if $r->{status} != 0;
	return lines($r);
}

sub hosted { return run_as(tool('rawclient'), undef, @_) }

sub converse {
	my $fifo = tmpdir() . '/converse' . $talks++;
	mkfifo($fifo, 0600) or die "$fifo: $!\n";
	my $p = spawn(@_, { stdin => $fifo });
	open my $in, '+<', $fifo or die "$fifo: $!\n"; # does not wait for who may never come
	$in->autoflush;
	return { process => $p, in => $in, asked => 0 };
}

# Its first process may have ended: it may be a daemon by now.
sub ask {
	my ($it, @commands) = @_;
	my $before = length $it->{process}->log;
	my $mark = 'mark' . $it->{asked}++;
	print { $it->{in} } map { "$_\n" } @commands, "echo $mark";
	wait_for(sub { return $it->{process}->log =~ /^$mark$/m }, 60);
	return grep { $_ ne $mark } split /\n/, substr $it->{process}->log, $before;
}

sub finish {
	my ($it) = @_;
	close $it->{in};
	$it->{process}->wait(20) // $it->{process}->stop;
}

sub code {
	my ($line) = @_;
	return !defined $line ? 'nothing' : $line =~ /^err \S+ (\d+) / ? $1 : $line =~ /^ok/ ? 0 : $line;
}

sub answers {
	my ($want, $name, @lines) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return Test::More::is(code($lines[-1]), $want, $name)
	    || Test::More::diag(map { substr($_, 0, 300) . "\n" } @lines);
}

sub varint {
	my ($v) = @_;
	my $s = '';
	for (; $v >= 0x80; $v >>= 7) { $s .= chr($v & 0x7f | 0x80) }
	return $s . chr $v;
}
sub field { return varint($_[0] << 3 | 2) . varint(length $_[1]) . $_[1] }
sub number { return varint($_[0] << 3) . varint($_[1]) }
sub hex_of { return length $_[0] ? unpack('H*', $_[0]) : '-' }
sub call { return "call $_[0] " . hex_of(join '', @_[ 1 .. $#_ ]) }

sub take_varint {
	my ($p) = @_;
	my ($v, $shift) = (0, 0);
	while (length $$p) {
		my $c = ord substr($$p, 0, 1, '');
		$v |= ($c & 0x7f) << $shift;
		$shift += 7;
		last if $c < 0x80;
	}
	return $v;
}

sub parse {
	my ($line) = @_;
	my ($hex) = ($line // '') =~ /^ok \S+ ([0-9a-f]*)$/ or return {};
	my $p = pack 'H*', $hex;
	my %f;
	while (length $p) {
		my $tag = take_varint(\$p);
		my $v = take_varint(\$p);
		$v = substr $p, 0, $v, '' if ($tag & 7) == 2;
		$f{ $tag >> 3 } //= $v;
	}
	return \%f;
}

sub every {
	my ($line, $n) = @_;
	my ($hex) = ($line // '') =~ /^ok \S+ ([0-9a-f]*)$/ or return;
	my $p = pack 'H*', $hex;
	my @all;
	while (length $p) {
		my $tag = take_varint(\$p);
		my $v = take_varint(\$p);
		$v = substr $p, 0, $v, '' if ($tag & 7) == 2;
		push @all, $v if $tag >> 3 == $n;
	}
	return @all;
}

sub bytes { return run(tool('rawclient'), '-', { stdin => join("\n", @_) . "\n" })->{out} =~ s/\s+\z//r }
sub encoded { return pack 'H*', bytes("encode $_[0] $_[1]") }
sub name_of { return bytes('decode ' . hex_of(parse($_[0])->{1} // '')) }

1;
