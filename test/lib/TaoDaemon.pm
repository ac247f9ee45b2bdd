package TaoDaemon;

# What the recipes about daemons share: a client that believes nothing, and load.
#
#   shown(PORT, VERSION, CA, {opt})  one connection of openssl s_client, which knows CA alone and
#                 wants `localhost`; VERSION is 1_2 or 1_3. {verified, signed, program, text}:
#                 whether the chain and name were good, what the server's signature was made
#                 with, (of a program certificate) its Measured(...), all that was printed.
#                 Options: say (text), until (a pattern that ends it), args => [...]
#   file_key(NAME)      a certificate for localhost and its key, in files: [cert, key, CA]
#   measured(TEXT)      the Measured(...) in it, however it was escaped
#   running(HOST)       what `tao ps` lists
#   program_of(HOST, PID|NAME)  Measured(...) in `tao ps` of the program with that label or process
#   family(PID...)      these processes and all below them
#   holds_no_key(NAME, HOST, STUB, CERT, PID...)  a test: in the memory of these processes, and of those
#                 below them that have the same executable, is the path CERT and not the private half of
#                 the key in STUB (P-256). Not with the sanitizers, whose memory is too large
#   holds_key(NAME, FILE, CERT, PID...)  the control: one of them has the private half of the key in
#                 this file, which is not sealed
#   controls(SUB)       runs it with runtests --all, and says so otherwise
#   load(PORT, CA)      curl after curl, TLS 1.2 and 1.3 in turn: an object with done (how many
#                 were served), wait_more(N), finish: the list of failures, among them that a wait_more() was
#                 in vain, or that nothing was served at all

use strict;
use warnings;

use Exporter 'import';
use JSON::PP ();
use TaoTest;
use Test::More ();

our @EXPORT = qw(shown file_key measured running program_of load controls);
our @EXPORT_OK = qw(holds_no_key holds_key family);

my $n = 0;

sub measured { return $_[0] =~ s/\\//gr =~ /(Measured\(\[\w+\], ?\[\w+\], ?\d+\))/ ? $1 =~ s/ //gr : undef }

sub shown {
	my ($port, $version, $ca, $opt) = @_;
	my $until = $opt->{until} // qr/closed|^HTTP/;
	my $text = talk($opt->{say} // '', $until, qw(openssl s_client -ign_eof -connect),
		"127.0.0.1:$port", "-tls$version", '-CAfile', $ca, qw(-verify_hostname localhost
		-servername localhost -verify_return_error), @{ $opt->{args} // [] });
	my ($pem) = $text =~ /(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n)/s;
	my ($signed) = $text =~ /^Peer signature type: (\S+)$/m;
	$signed = 'ECDSA' if ($signed // '') =~ /^$ECDSA_TYPE\z/;
	my $subject = $pem ? run(qw(openssl x509 -noout -subject -nameopt RFC2253), { stdin => $pem })->{out} : '';
	return { verified => $text =~ /^Verification: OK$/m && $text =~ /^Verified peername: localhost$/m ? 1 : 0,
		signed => $signed // '', program => measured($subject), text => $text };
}

sub file_key {
	my ($name) = @_;
	my $base = tmpdir() . "/$name";
	my $r = run(qw(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj),
		"/CN=$name", qw(-addext subjectAltName=DNS:localhost -keyout), "$base.key", '-out', "$base.crt");
	die $r->{err} if $r->{status} != 0;
	return ["$base.crt", "$base.key", "$base.crt"];
}

sub running { return @{ JSON::PP::decode_json($_[0]->tao(qw(--json ps))->{out}) } }

sub program_of {
	my ($host, $which) = @_;
	for my $i (running($host)) {
		return measured($i->{principal}) if $i->{pid} eq $which || ($i->{label} // '') eq $which;
	}
	return undef;
}

sub family {
	my @all = @_;
	my %parent = map { my ($pid) = /(\d+)/; my $text = eval { slurp("/proc/$pid/status") } // '';
		$text =~ /^PPid:\s*(\d+)/m ? ($pid => $1) : () } glob '/proc/[0-9]*';
	for (my $i = 0; $i < @all; $i++) {
		push @all, grep { $parent{$_} == $all[$i] } sort keys %parent;
	}
	return @all;
}

# The same executable: what stunnel or socat start for a connection is another program.
sub scan {
	my ($key, $cert, @pids) = @_;
	my %exe = map { readlink("/proc/$_/exe") // '' => 1 } @pids;
	my @all = grep { $exe{ readlink("/proc/$_/exe") // '' } } family(@pids);
	return run(tool('keyscan'), @$key, $cert, @all, { timeout => 300 });
}

sub holds_no_key {
	my ($name, $host, $stub, $cert, @pids) = @_;
	return if config('TAO_ASAN');
	my $r = scan([ $host->dir . '/host/root.key', $host->passfile, $stub ], $cert, @pids);
	Test::More::is($r->{status}, 0, "$name: no process holds the private key") or Test::More::diag($r->{out}, $r->{err});
}

sub holds_key {
	my ($name, $file, $cert, @pids) = @_;
	return if config('TAO_ASAN');
	my $r = scan([ $file, '-', '-' ], $cert, @pids);
	Test::More::like($r->{out}, qr/\) [1-9]\d* times.*control [1-9]/, "$name: the scan finds a key that is there") or Test::More::diag($r->{err});
}

# A process of its own, until a file appears.
my $client = <<'PERL';
my ($stop, $port, $ca) = @ARGV;
$| = 1;
for (my $i = 0; !-e $stop; $i++) {
	my $text = `curl -sS --max-time 20 --tls-max 1.${\($i % 2 + 2)} --cacert $ca --resolve localhost:$port:127.0.0.1 https://localhost:$port/n$i 2>&1`;
	print $? == 0 && $text =~ m{/n$i$}m ? "served $i\n" : "FAILED $i: $text\n";
}
print "end\n";
PERL

sub controls {
	my ($sub) = @_;
	return $sub->() if $ENV{TAO_TEST_ALL};
	Test::More::note('the same with a key in a file: runtests --all');
	return;
}

sub load {
	my ($port, $ca) = @_;
	my $stop = tmpdir() . '/load' . $n++;
	return bless { stop => $stop, process => spawn($^X, '-e', $client, $stop, $port, $ca) }, 'TaoDaemon::Load';
}

package TaoDaemon::Load;

sub done { my @served = $_[0]{process}->log =~ /^served/mg; return scalar @served }

sub wait_more {
	my ($self, $more) = @_;
	my $want = $self->done + $more;
	TaoTest::wait_for(sub { return $self->done >= $want || !$self->{process}->alive }, 60);
	push @{ $self->{missing} }, 'only ' . $self->done . " requests were served, not $want" if $self->done < $want;
	return $self->done >= $want;
}

sub finish {
	my ($self) = @_;
	TaoTest::spew($self->{stop}, '');
	$self->{process}->wait_for_line(qr/^end$/, 40);
	my $log = $self->{process}->log;
	my @failed = ($log =~ /^(FAILED.*)$/mg, @{ $self->{missing} // [] });
	push @failed, 'no request was made' if $log !~ /^served/m;
	push @failed, "the client did not end: $log" if $log !~ /^end$/m;
	return @failed;
}

1;
