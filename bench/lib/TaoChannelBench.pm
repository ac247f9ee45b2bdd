package TaoChannelBench;

# What the measurements of Tao channels share.
#
#   channel_host()               a host with a P-256 key "bench" for tls_server, which serves localhost, and a rule by
#                                which tls_client may talk to it
#   channel_server(HOST, LINES)  tls_server with that key, under tao run, with these lines in the section of tao_tls;
#                                the host's CPU is counted as its
#   clients(SERVER, [COMMAND], OPTIONS...)  tls_client, the command before it, which goes on: what its start
#                                costs the host is in no turn
#   under(HOST, LINES)           that command, for clients of the host
#   turn(CLIENTS)                one turn: the rate; counts the server's CPU and handshakes
#   requests(HOST, PID)          how many requests the process has sent to the host

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use POSIX qw(mkfifo);
use TaoHostBench;
use TaoKeyBench;
use TaoTest;

our @EXPORT = qw(channel_host channel_server clients under turn requests);

my $server = bldtop() . '/bench/tool/tls_server';
my $client = bldtop() . '/bench/tool/tls_client';
my $files = 0;

sub channel_host {
	my $host = sealed('p256', $server);
	output($host->tao('trust', $client), 'tao trust');
	output($host->tao('connect', $client, $server), 'tao connect');
	return $host;
}

sub under {
	my ($host, @lines) = @_;
	my $text = slurp($host->dir . '/openssl.cnf');
	$text =~ s/^(path = .*tao\.so)$/join "\n", $1, @lines/me or die "openssl.cnf has no section of tao_tls\n";
	return $host->cmd(qw(run --quiet --openssl-conf), spew(tmpdir() . '/channel' . $files++ . '.cnf', $text), '--');
}

sub channel_server {
	my ($host, @lines) = @_;
	my $of = server(under($host, @lines), $server, certificate($host), stub($host));
	push @{ $of->{pids} }, keeper($host);
	return $of;
}

sub clients {
	my ($of, $before, @options) = @_;
	my $fifo = tmpdir() . '/clients' . $files++;
	mkfifo($fifo, 0600) or die "$fifo: $!\n";
	my $process = spawn(@$before, $client, '-i', @options, $of->{port}, { stdin => $fifo });
	open my $in, '+<', $fifo or die "$fifo: $!\n";
	$in->autoflush;
	return { server => $of, process => $process, in => $in, turns => 0 };
}

# Of processes that work for both sides, half.
sub spent { return cpu(@{ $_[0]{pids} }) + cpu(@{ $_[0]{halves} // [] }) / 2 }

sub turn {
	my ($c) = @_;
	my $of = $c->{server};
	my $before = spent($of);
	print { $c->{in} } "\n";
	my $turn = ++$c->{turns};
	my @lines;
	wait_for(sub { (@lines = $c->{process}->log =~ /^([\d.]+ \d+)$/mg) >= $turn || !$c->{process}->alive }, 120);
	die "a client: " . $c->{process}->log if @lines < $turn;
	my ($rate, $count) = split / /, $lines[-1];
	$of->{cpu} += spent($of) - $before;
	$of->{handshakes} += $count;
	return $rate;
}

sub requests {
	my ($host, $pid) = @_;
	my ($it) = grep { $_->{pid} == $pid } @{ decode_json(output($host->tao('--json', 'ps'), 'tao ps')) };
	return $it->{operations} // die "tao ps does not know $pid\n";
}

1;
