#!/usr/bin/perl
# Makes tlskeys.txt: the derivations of tao-channel(7), written down a second time from that
# page, with the SHA-2 of Perl's Digest::SHA, which is not OpenSSL's.
#
#   perl tlskeys.pl > tlskeys.txt
use strict;
use warnings;

use Digest::SHA qw(sha256 hmac_sha256 hmac_sha384);

sub expand {
	my ($key, $info, $n, $hmac) = @_;
	my ($t, $out) = ('', '');
	for (my $i = 1; length $out < $n; $i++) {
		$t = $hmac->("$t$info" . chr $i, $key);
		$out .= $t;
	}
	return substr $out, 0, $n;
}

sub u32 { return pack 'N', $_[0] }
sub bytes { my ($from, $n) = @_; return pack 'C*', map { ($from + 7 * $_) & 0xff } 0 .. $n - 1 }
sub show { printf "%s %s\n", $_[0], unpack 'H*', $_[1] }

my $n = 0;
for my $epoch (1, 20780, 0xfffffffe) {
	$n++;
	my ($root, $naming, $ancestor) = map { bytes($_ + $n, 32) } 1, 80, 160;
	my ($c, $s, $other) = map { bytes(9 * $_ + $n, 40 + $_) } 1, 2, 3;
	my $pair = sub { expand($root, 'tao pair v1' . u32($epoch) . $ancestor . sha256($_[0]) . sha256($_[1]), 32, \&hmac_sha256) };
	my $key = $pair->($c, $s);
	my ($id_c, $id_s) = map { substr hmac_sha256("tao id v1$_", $naming), 0, 16 } $c, $s;
	printf "epoch %08x\n", $epoch;
	show(root => $root);
	show(naming => $naming);
	show(ancestor => $ancestor);
	show(c => $c);
	show(s => $s);
	show(other => $other);
	show(pair => $key);
	show(reverse => $pair->($s, $c));
	show(group => expand($root, 'tao group v1' . u32($epoch) . $ancestor . sha256(join '', sort map { sha256($_) } $c, $s, $other),
		32, \&hmac_sha256));
	show(id_c => $id_c);
	show(id_s => $id_s);
	for my $hash ([ 1, 32, \&hmac_sha256 ], [ 2, 48, \&hmac_sha384 ]) {
		my ($number, $length, $hmac) = @$hash;
		my $before = chr(1) . u32($epoch) . u32(0x6925f000 + $n) . chr($number) . "\x03\x04" . $id_c . $id_s
		    . bytes(200 + $n, 15);
		my $identity = $before . substr hmac_sha256("tao psk tag v1$before", $key), 0, 16;
		show("identity$number", $identity);
		show("psk$number", expand($key, "tao psk v1$identity", $length, $hmac));
	}
	for my $group ([ 'fe10', 32, 32 ], [ 'fe11', 1216, 1120 ]) {
		my ($name, $client, $server) = @$group;
		my $client_share = bytes(3, $client) . chr(1) . u32($epoch) . $id_c . bytes(50, 16);
		my $server_share = bytes(5, $server) . chr(1) . u32($epoch) . $id_s . bytes(60, 16);
		show("salt$name", expand($key, 'tao x25519 v1' . sha256($client_share) . sha256($server_share), 32,
			\&hmac_sha256));
	}
	print "end\n";
}
