package TaoChannelBench;

# What the measurements of Tao channels share.
#
#   channel_host()               a host with a P-256 key "bench" for tls_server, which serves localhost, and a rule by
#                                which tls_client may talk to it
#   channel_server(HOST, LINES)  tls_server with that key, under tao run, with these lines in the section of tao_tls;
#                                CPU of the host is counted as its
#   clients(HOST, LINES)         the command to put before tls_client, likewise
#   channel_conf(HOST, LINES)    the openssl.cnf of both

use strict;
use warnings;

use Exporter 'import';
use TaoHostBench;
use TaoKeyBench;
use TaoTest;

our @EXPORT = qw(channel_host channel_server clients channel_conf);

my $server = bldtop() . '/bench/tool/tls_server';
my $confs = 0;

sub channel_host {
	my $host = sealed('p256', $server);
	my $client = bldtop() . '/bench/tool/tls_client';
	output($host->tao('trust', $client), 'tao trust');
	output($host->tao('connect', $client, $server), 'tao connect');
	return $host;
}

sub channel_conf {
	my ($host, @lines) = @_;
	my $text = slurp($host->dir . '/openssl.cnf');
	$text =~ s/^(path = .*tao_tls\.so)$/join "\n", $1, @lines/me or die "openssl.cnf has no section of tao_tls\n";
	return spew(tmpdir() . '/channel' . $confs++ . '.cnf', $text);
}

sub clients {
	my ($host, @lines) = @_;
	return $host->cmd(qw(run --quiet --openssl-conf), channel_conf($host, @lines), '--');
}

sub channel_server {
	my ($host, @lines) = @_;
	my $of = server(clients($host, @lines), $server, certificate($host), stub($host));
	push @{ $of->{pids} }, keeper($host);
	return $of;
}

1;
