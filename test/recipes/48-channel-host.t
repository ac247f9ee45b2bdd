# Tao channels, the host's side: what two programs get for each other, and what nobody gets.
use strict;
use warnings;

use Digest::SHA qw(hmac_sha256 sha256);
use File::Copy qw(copy);
use JSON::PP;
use Test::More;
use TaoRaw qw(:DEFAULT ask converse finish);
use TaoTest;
use Time::HiRes qw(sleep time);

need_programs('openssl');

# Numbers of enum tao_err.
use constant { OK => 0, EINVAL => 2, EFORMAT => 3, ELIMIT => 4, ENOTFOUND => 7, EDENIED => 9, EEXPIRED => 19, EVERSION => 20 };
use constant { TLS13 => 0x0304, SHA256 => 1, SHA384 => 2, X25519 => 0xfe10, MLKEM => 0xfe11 };
use constant { C => 26, EPOCH => 1, TIME => 5, HASH => 9, VERSION => 10, ID_C => 12, ID_S => 28, NONCE => 44, TAG => 59 };

my $dir = tmpdir();
my $r;
my $NAME = 's.example';

# --- programs of their own, that are talked to while they run

my $made = 0;
sub program { # executables differ in a byte at their end
	my $path = "$dir/prog" . $made++;
	copy(tool('rawclient'), $path) or die "$path: $!\n";
	open my $fh, '>>', $path or die;
	print $fh $path;
	close $fh;
	chmod 0755, $path;
	return $path;
}

sub start {
	my ($host, $path, @as) = @_;
	my $self = converse(@as, $host->cmd('run', '--quiet', '--', $path), $host->dir . '/run/tao.sock');
	my @l = ask($self, 'connect', 'identify');
	$self->{name} = parse($l[1])->{1};
	return $self;
}
sub again { ask($_[0], 'connect', 'identify') }

# --- what they ask

sub one { my ($p, @call) = @_; return (ask($p, call(@call)))[-1] }
sub psk_client { my ($p, $name, $hash, $version) = @_;
	return one($p, 'Tao.PskClient', field(1, $name // $NAME), number(2, $version // TLS13), number(3, $hash // SHA256)) }
sub psk_server { my ($p, $identity, $hash, $version) = @_;
	return one($p, 'Tao.PskServer', field(1, $identity), number(2, $version // TLS13), number(3, $hash // SHA256)) }
sub nonces { my ($p, $n) = @_;
	my $r = parse(one($p, 'Tao.GroupNonces', number(1, $n // 1)));
	return map { pack('N', $r->{1}) . $r->{2} . $_ } unpack '(a16)*', $r->{3} // '' }
sub client_share { my ($tail, $group) = @_; return 'c' x (($group // X25519) == MLKEM ? 1216 : 32) . "\1$tail" }
sub group_server { my ($p, $share, $group, $public) = @_;
	$group //= X25519;
	return one($p, 'Tao.GroupServer', number(1, $group), field(2, $share), field(3, $public // 's' x ($group == MLKEM ? 1120 : 32))) }
sub group_client { my ($p, $c, $s, $group) = @_;
	return one($p, 'Tao.GroupClient', number(1, $group // X25519), field(2, $c), field(3, $s)) }
sub check_peer { my ($p, $server, $name, @chain) = @_;
	return parse(one($p, 'Tao.CheckPeer', (map { field(1, $_) } @chain), number(2, $server), defined $name ? field(3, $name) : ())) }
sub peer { return parse(one($_[0], 'Tao.Peer', field(1, $_[1]))) }
sub group_key { my ($p, @members) = @_; return one($p, 'Tao.GroupKey', map { field(1, $_) } @members) }

# An answer without a secret, which says why.
sub none {
	my ($line, $why, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $r = parse($line);
	ok(code($line) eq OK && !exists $r->{2} && !exists $r->{1} && ($r->{6} // '') =~ $why, $name) or diag(substr($line, 0, 300), ' ', $r->{6} // '');
}
sub refused {
	my ($code, $line, $why, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(code($line) eq $code && $line =~ $why, $name) or diag(substr $line, 0, 400);
}
sub altered { my ($s, $at, $with) = @_; substr($s, $at, length $with) = $with; return $s }
sub flipped { my ($s, $at) = @_; substr($s, $at, 1) ^= "\1"; return $s }
sub x509 { my ($der, @what) = @_; return run(qw(openssl x509 -inform DER -noout), @what, { stdin => $der })->{out} }

# --- without rules

my $host = start_host();
my ($client, $server, $third) = map { program() } 1 .. 3;
$host->tao('trust', $_) for $client, $third;
$host->tao('trust', $server, '--serves', $NAME);
my ($c, $s) = (start($host, $client), start($host, $server));
my $told = peer($c, $NAME);
is_deeply([ @$told{1 .. 3} ], [ 1, 0, 10 ], 'a domain without Connect: known, but no peers');
like($told->{4}, qr/tao connect/, 'and it says what to do');
none(psk_client($c), qr/tao connect/, 'no PSK then');
refused(EDENIED, one($c, 'Tao.GroupNonces', number(1, 1)), qr/tao connect/, 'and no group');
my @identity = every(one($s, 'Tao.Identity'), 3);
is(scalar @identity, 2, 'Tao.Identity: a certificate and the domain\'s');
is(check_peer($c, 0, $NAME, @identity)->{2}, 1, 'its certificate is accepted');
is(check_peer($c, 0, $NAME, @identity)->{1}, 1, 'as the domain\'s own');

# --- the key that every program has

my $first = parse(one($c, 'Tao.Identity'));
is(parse(one($c, 'Tao.Identity'))->{2}, $first->{2}, 'the same key the next time');
is("$first->{8} $first->{9} $first->{10}", 'p256 tls host', 'on P-256, for TLS');
my @keys = @{ decode_json($host->tao(qw(--json key list))->{out}) };
is(scalar(grep { $_->{name} =~ /^identity-[0-9a-f]{24}$/ && $_->{program} =~ /prog[01]$/ } @keys), 2, 'tao key list has them');
like(x509($identity[0], '-ext', 'subjectAltName'), qr/DNS:\Q$NAME\E/, 'the server\'s has its DNS name');
fails_with([ $host->cmd('key', 'new', 'identity-1', '--for', $client) ], qr/are those that the host makes/, 'nobody else makes such keys');
refused(EINVAL, one($c, 'Tao.GenerateKey', field(1, 'identity-x')), qr/host makes/, 'nor does a program');

# A script's is for its exact name. Of those only so many are kept, besides those that run.
my $script = "$dir/sh";
copy(tool('rawclient'), $script) or die;
chmod 0755, $script;
$host->tao('trust', $script);
my $runs = start($host, $script);
my $kept = parse(one($runs, 'Tao.Identity'))->{2};
$r = $host->tao('run', '--quiet', '--', $script, $host->dir . '/run/tao.sock', 'connect', 'identify', 'call Tao.Identity', "echo $_") for 1 .. 66;
like($r->{out}, qr/^ok Tao.Identity/m, 'a script that runs again and again with other arguments');
@keys = grep { $_->{policy} eq 'exact' } @{ decode_json($host->tao(qw(--json key list))->{out}) };
cmp_ok(scalar @keys, '<=', 66, 'does not use up the keys of its user');
ok(length $kept && parse(one($runs, 'Tao.Identity'))->{2} eq $kept, 'one that runs keeps its own');
finish($runs);

# --- PSK

ok_run([ $host->cmd('connect', $client, $server) ], 'tao connect');
$told = peer($c, 'S.Example.');
is_deeply([ @$told{1, 2} ], [ 1, 1 ], 'the name is known, however it is written');
is(peer($c, 'other.example')->{1}, 0, 'another is not');
for my $hash (SHA256, SHA384) {
	my $line = psk_client($c, $NAME, $hash);
	my ($get, $have) = (parse($line), undef);
	is(length($get->{1}) . ' ' . length($get->{2}), '75 ' . ($hash == SHA256 ? 32 : 48), "hash $hash: an identity, and its secret");
	is($get->{3}, $s->{name}, 'for the server');
	is_deeply([ every($line, 4) ], \@identity, 'with its certificate and the domain\'s');
	$have = parse(my $answer = psk_server($s, $get->{1}, $hash));
	is($have->{2}, $get->{2}, 'the server gets the same secret');
	is($have->{3}, $c->{name}, 'for the client');
	is((every($answer, 4))[0], $first->{3}, 'with the certificate of its own key');
	none(psk_server($s, $get->{1}, $hash), qr/used before/, 'once');
}
sub fresh { return parse(psk_client($_[0] // $c))->{1} }
my $id = fresh();
isnt(substr($id, NONCE, 15), substr(fresh(), NONCE, 15), 'nonces differ');
is(substr($id, 0, 5) . substr($id, HASH, 3), "\1" . substr($id, EPOCH, 4) . "\1\3\4", 'fields are where they should be');
cmp_ok(abs(unpack('N', substr $id, TIME, 4) - time), '<', 60, 'and the time');

for my $case ([ 'a byte more', "$id\0", qr/75 bytes/ ], [ 'a byte less', substr($id, 0, 74), qr/75 bytes/ ], [ 'nothing', '', qr/75 bytes/ ],
	[ 'format 0', altered($id, 0, "\0"), qr/format/ ], [ 'a newer format', altered($id, 0, "\2"), qr/newer/ ],
	[ 'an epoch that is over', altered($id, EPOCH, pack 'N', unpack('N', substr $id, EPOCH, 4) - 2), qr/epoch/ ],
	[ 'an epoch to come', altered($id, EPOCH, pack 'N', unpack('N', substr $id, EPOCH, 4) + 2), qr/epoch/ ],
	[ 'six minutes ago', altered($id, TIME, pack 'N', time - 360), qr/seconds ago/ ],
	[ 'in six minutes', altered($id, TIME, pack 'N', time + 360), qr/seconds from now/ ],
	[ 'a second later', altered($id, TIME, pack 'N', unpack('N', substr $id, TIME, 4) + 1), qr/altered/ ],
	[ 'no hash', altered($id, HASH, "\0"), qr/hash/ ], [ 'another hash', altered($id, HASH, "\2"), qr/another hash/ ],
	[ 'another version', altered($id, VERSION, "\3\3"), qr/version/ ], [ 'an unknown client', altered($id, ID_C, 'x' x 16), qr/no program/ ],
	[ 'another server', flipped($id, ID_S), qr/another server/ ], [ 'another nonce', flipped($id, NONCE), qr/altered/ ],
	[ 'another tag', flipped($id, TAG), qr/altered/ ], [ 'the other direction', altered(altered($id, ID_C, substr $id, ID_S, 16), ID_S, substr $id, ID_C, 16), qr/another server/ ]) {
	none(psk_server($s, $case->[1]), $case->[2], "an identity with $case->[0]");
}
refused(EINVAL, psk_server($s, $id, 3), qr/hash/, 'no such hash');
refused(EINVAL, psk_server($s, $id, 1, 0x0301), qr/version/, 'no such version');
refused(EINVAL, psk_client($c, 'a b'), qr/DNS name/, 'no such name');
none(psk_client($c, 'other.example'), qr/no rule says who serves/, 'a name that nobody serves');
none(psk_client($c, '127.0.0.1'), qr/no rule/, 'an address');
is(parse(psk_server($s, $id))->{3}, $c->{name}, 'none of these has spent the identity');

# Minted by a program: it knows all but the pair key.
my $minted = altered(fresh(), NONCE, 'n' x 15);
$minted = substr($minted, 0, TAG) . substr hmac_sha256('tao psk tag v1' . substr($minted, 0, TAG), 'k' x 32), 0, 16;
none(psk_server($s, $minted), qr/no host made it/, 'an identity that a program makes');

# The client as server; a third program as either.
my $t = start($host, $third);
none(psk_server($c, fresh()), qr/another server/, 'reflected to the client');
none(psk_server($t, fresh()), qr/another server/, 'shown to another program');
none(psk_client($t), qr/no rule lets this client/, 'a program that no rule allows');
ok_run([ $host->cmd('connect', $third, $server) ], 'a rule for it');
my $other = parse(psk_client($t))->{1};
none(psk_server($s, altered(fresh(), ID_C, substr $other, ID_C, 16)), qr/altered/, 'an identity of one pair as another\'s');
is(parse(psk_server($s, $other))->{3}, $t->{name}, 'its own is good');
ok_run([ $host->cmd('connect', $third, $server, '--remove') ], 'tao connect --remove');
none(psk_client($t), qr/no rule lets this client/, 'counts at once');

# Two starts of one program: what one obtained, only the other may answer.
ok_run([ $host->cmd('connect', $server, $server) ], 'a program that talks to its like');
none(psk_client($s), qr/no program that serves/, 'but not to itself');
my $twin = start($host, $server);
$id = fresh($s);
none(psk_server($s, $id), qr/talk to itself/, 'not by reflection either');
is(parse(psk_server($twin, $id))->{3}, $s->{name}, 'its twin answers');
$id = fresh();
is(parse(psk_server($twin, $id))->{3}, $c->{name}, 'either twin serves');
none(psk_server($s, $id), qr/used before/, 'but one of them, once');

# --- groups

for my $group (X25519, MLKEM) {
	my ($mine, $tail) = nonces($c, 2);
	my $share = client_share($tail, $group);
	my $from = parse(group_server($s, $share, $group));
	my $to = parse(group_client($c, $share, $from->{3}, $group));
	is(length($to->{1}), 32, sprintf 'group %x: a salt', $group);
	is($to->{1}, $from->{1}, 'the same for both');
	is("$to->{2}$from->{2}", "$s->{name}$c->{name}", 'and each knows who the other is');
	refused(EDENIED, group_client($c, $share, $from->{3}, $group), qr/used before/, 'once');
	isnt(parse(group_server($s, $share, $group))->{1}, $from->{1}, 'the server draws another nonce each time');
}
my ($tail, $fresh) = nonces($c, 2);
my $share = client_share($tail);
my $from = parse(group_server($s, $share));
my $altered = flipped($from->{3}, 0);
isnt(parse(group_client($c, $share, $altered))->{1}, $from->{1}, 'another public key, another salt');
$share = client_share($fresh);
$from = parse(group_server($s, $share));
my $c2 = start($host, $client);
is($c2->{name}, $c->{name}, 'a second start of the client has the same name');
refused(EDENIED, group_client($c2, $share, $from->{3}), qr/not drawn for this program/, 'and not its key shares');
refused(EDENIED, group_client($t, $share, $from->{3}), qr/not drawn for this program/, 'nor has another program');
refused(EDENIED, group_client($c, client_share(altered($fresh, 20, 'x' x 16)), $from->{3}), qr/not drawn/, 'a nonce of its own making');
refused(EDENIED, group_client($c, $share, flipped($from->{3}, 36)), qr/another epoch/, 'an answer of another epoch');
refused(ENOTFOUND, group_client($c, $share, flipped($from->{3}, 40)), qr/no program/, 'or of nobody');
refused(EFORMAT, group_client($c, $share, altered($from->{3}, 32, "\0")), qr/format/, 'or of no format');
refused(EFORMAT, group_client($c, substr($share, 1), $from->{3}), qr/bytes/, 'a share that is cut');
refused(EFORMAT, group_client($c, $share, $from->{3} . 'x'), qr/bytes/, 'one that is too long');
refused(EINVAL, group_client($c, $share, $from->{3}, 29), qr/no group/, 'a group that is not ours');
refused(EDENIED, group_server($c, $share), qr/talk to itself/, 'reflected to the client');
refused(EDENIED, group_server($t, $share), qr/no rule lets/, 'shown to another program');
refused(ENOTFOUND, group_server($s, flipped($share, 40)), qr/no program/, 'of an unknown client');
refused(EEXPIRED, group_server($s, flipped($share, 33)), qr/epoch/, 'of another epoch');
refused(EVERSION, group_server($s, altered($share, 32, "\2")), qr/newer/, 'of a newer format');
refused(EFORMAT, group_server($s, $share, X25519, 's' x 31), qr/bytes/, 'with a short answer');
refused(EINVAL, one($c, 'Tao.GroupNonces', number(1, 65)), qr/64/, 'too many nonces at once');
refused(EINVAL, one($c, 'Tao.GroupNonces', number(1, 0)), qr/64/, 'none');
is(parse(group_client($c, $share, $from->{3}))->{1}, $from->{1}, 'none of these has spent the nonce');

# --- group keys

my @members = map { $_->{name} } $c, $s, $t;
my $key = parse(group_key($c, @members));
is(length $key->{2}, 32, 'a group key');
is(parse(group_key($s, reverse @members))->{2}, $key->{2}, 'for another member the same');
isnt(parse(group_key($s, @members[0, 1]))->{2}, $key->{2}, 'another group has another');
refused(EDENIED, group_key($t, @members[0, 1]), qr/no member/, 'and nobody else');
refused(EINVAL, group_key($c, $c->{name}), qr/2 to 64/, 'a group of one is none');
refused(EFORMAT, group_key($c, $c->{name}, 'x'), qr/binary form, byte 1/, 'a member that is no principal');
refused(EDENIED, group_key($c, $c->{name}, encoded('prin', 'key([' . 'ab' x 32 . ']).A()')), qr/this host/, 'one of elsewhere');
my $text = bytes_of($t->{name});
sub bytes_of { return run(tool('rawclient'), '-', { stdin => 'decode ' . unpack('H*', $_[0]) . "\n" })->{out} =~ s/\s+\z//r }
$r = $host->tao('run', '--quiet', '--', bin('tao'), '-d', $host->dir, '--json', 'group', 'key', $text);
like($r->{out}, qr/^\{"epoch":\d+,"key":"[0-9a-f]{64}"\}$/, 'tao group key') or diag($r->{err});
fails_with([ $host->cmd(qw(run --quiet --), bin('tao'), '-d', $host->dir, qw(group key nginx)) ], qr/'nginx' is no principal, as 'tao ps --long'/, 'of what is no principal');

# --- certificates that peers show

$told = check_peer($c, 0, $NAME, @identity);
is_deeply([ @$told{1, 2, 3} ], [ 1, 1, $s->{name} ], 'the server\'s certificate');
like($told->{4}, qr/^key\(\[/, 'whose name is told as text');
is(check_peer($c, 0, 'other.example', @identity)->{2}, 1, 'a name of which the rules say nothing');
is(check_peer($s, 1, undef, $first->{3})->{2}, 1, 'the client\'s, for the server');
$told = check_peer($c, 1, undef, @identity);
is($told->{2}, 0, 'not in the other direction');
like($told->{5}, qr/no rule lets this client/, 'and it says why');
$host->tao('connect', $client, $third);
$told = check_peer($c, 0, $NAME, parse(one($t, 'Tao.Identity'))->{3});
like("$told->{2} $told->{5}", qr/^0 no rule says that this program serves/, 'a server that speaks for another\'s name');
my ($urn) = x509($identity[0], '-ext', 'subjectAltName') =~ /URI:(urn:tao:\S+?)(?:, DNS|$)/m;
spew("$dir/req.cnf", "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n[dn]\nCN = x\n[v3]\nsubjectAltName = \@san\n[san]\nURI.1 = $urn\n");
ok_run([ qw(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -config), "$dir/req.cnf", '-keyout', "$dir/k.pem", '-out', "$dir/c.pem" ],
	'a certificate of the same name that is not the domain\'s');
my $forged = run(qw(openssl x509 -outform DER -in), "$dir/c.pem")->{out};
$told = check_peer($c, 0, $NAME, $forged);
is("$told->{1} $told->{2}", '0 0', 'a certificate of nobody\'s, for a name that the rules know');
is(check_peer($c, 0, 'other.example', $forged)->{2}, 1, 'for another name that is no affair of theirs');
# Issued by somebody who calls himself what the domain is called.
ok_run([ qw(openssl x509 -inform DER -clrext -days 1 -signkey), "$dir/k.pem", '-out', "$dir/ca.pem" ], 'a CA of the domain\'s name', { stdin => $identity[1] });
run(qw(openssl req -new -key), "$dir/k.pem", '-config', "$dir/req.cnf", '-out', "$dir/leaf.csr");
ok_run([ qw(openssl x509 -req -days 1 -extensions v3), '-in', "$dir/leaf.csr", '-extfile', "$dir/req.cnf", '-CA', "$dir/ca.pem", '-CAkey', "$dir/k.pem",
	'-CAcreateserial', '-out', "$dir/leaf.pem" ], 'a certificate in the domain\'s name');
$told = check_peer($c, 0, $NAME, run(qw(openssl x509 -outform DER -in), "$dir/leaf.pem")->{out});
is("$told->{1} $told->{2}", '0 0', 'is no more');
is(check_peer($s, 1, undef, $forged)->{1}, 0, 'nor is it a client of ours');
$told = check_peer($c, 0, $NAME, 'x');
is("$told->{1} $told->{2}", '0 0', 'what is no certificate');
is(check_peer($c, 0, $NAME)->{2}, 0, 'none at all');

# --- the log

my @handshake = (number(1, 0), number(2, 1), field(3, 'psk'), number(4, TLS13), field(5, 'X25519'), field(6, 'TLS_AES_128_GCM_SHA256'), field(7, $s->{name}), field(8, $NAME));
is(code(one($c, 'Tao.Handshake', @handshake)), OK, 'Tao.Handshake');
refused(EINVAL, one($c, 'Tao.Handshake', number(1, 0), number(2, 1), field(3, 'x'), number(4, TLS13)), qr/mode/, 'of no mode');
refused(EFORMAT, one($c, 'Tao.Handshake', @handshake[0 .. 3], field(7, 'x')), qr/binary form, byte 1/, 'of no principal');
ok(wait_for(sub { $r = $host->tao('log')->{out}; $r =~ /Tao\.Handshake role=client did=completed mode=psk.*name=\Q$NAME\E/ }), 'tao log shows it') or diag($r);
like($r, qr/psk-server: denied: .*another server/, 'and what was refused');

# --- many bogus identities

sub rss { return (slurp('/proc/' . decode_json($host->tao(qw(--json status))->{out})->{pid} . '/status') =~ /^VmRSS:\s+(\d+)/m)[0] }
$id = fresh();
my $before = rss();
my $N = 10000;
my $bogus = (split / /, call('Tao.PskServer', field(1, flipped($id, TAG)), number(2, TLS13), number(3, SHA256)))[2];
print { $t->{in} } "burst $N Tao.PskServer " . (split / /, call('Tao.PskServer', field(1, altered($id, ID_C, 'y' x 16)), number(2, TLS13), number(3, SHA256)))[2] . "\n";
is(parse(psk_server($s, fresh()))->{3}, $c->{name}, 'while somebody shows ten thousand bogus identities, others are served');
ask($t);
like($t->{process}->log, qr/^$N ok/m, 'who gets answers, and nothing');
like((ask($s, "burst $N Tao.PskServer $bogus"))[-1], qr/^$N ok/, 'the same with an id that is known');
cmp_ok(rss() - $before, '<', 4000, 'nothing of it stays') if !config('TAO_ASAN');
is(parse(psk_server($s, $id))->{3}, $c->{name}, 'the honest one is still good');

# --- revocation

$id = fresh();
my ($unused) = nonces($c);
my $psk = parse(psk_client($c));
ok_run([ $host->cmd('revoke', $client) ], 'tao revoke PROGRAM');
none(psk_server($s, $id), qr/revoked/, 'an identity from before it is worth nothing, at once');
refused(EDENIED, psk_client($c), qr/revoked/, 'the program gets none');
refused(EDENIED, group_server($s, client_share($unused)), qr/revoked/, 'nor is it given a group');
refused(EDENIED, group_client($c, client_share($unused), $from->{3}), qr/revoked/, 'by neither side');
refused(EDENIED, group_key($s, @members), qr/revoked/, 'nor a group with it a key');
refused(EDENIED, one($c, 'Tao.GetKey', field(1, $keys[0]{name})), qr/revoked/, 'nor its sealed keys');
refused(EDENIED, one($c, 'Tao.Sign', field(1, $first->{2}), field(2, 'x' x 32), field(3, 'SHA256')), qr/revoked/, 'not even one that is open');
refused(EDENIED, one($c, 'Tao.GetSharedSecret', number(2, 16), field(3, 'self')), qr/revoked/, 'nor secrets');
$told = check_peer($s, 1, undef, $first->{3});
like("$told->{2} $told->{5}", qr/^0 .*revoked/, 'its certificate is refused');
is(parse(psk_server($s, parse(psk_client($twin))->{1}))->{3}, $twin->{name}, 'others are as before');
ok_run([ $host->cmd('revoke', $client, '--undo') ], 'tao revoke --undo');
is(parse(psk_server($s, fresh()))->{3}, $c->{name}, 'and all is well');
my $spki = sha256(run(qw(openssl pkey -pubin -outform DER), { stdin => x509($identity[0], '-pubkey') })->{out});
ok_run([ $host->cmd('revoke', unpack 'H*', $spki) ], 'tao revoke HASH, of a key');
like(check_peer($c, 0, $NAME, @identity)->{5}, qr/revoked the key/, 'its certificate is refused');
$r = psk_client($c);
is(scalar(every($r, 4)), 0, 'and not shown any more');
ok_run([ $host->cmd('revoke', '--undo', unpack 'H*', $spki) ], 'taken back');
ok_run([ $host->cmd('revoke', bytes_of($s->{name})) ], 'tao revoke PRINCIPAL');
none(psk_client($c), qr/revoked/, 'a server that is revoked');
ok_run([ $host->cmd('revoke', '--undo', bytes_of($s->{name})) ], 'taken back');
fails_with([ $host->cmd('revoke') ], qr/give a program/, 'tao revoke of nothing');
fails_with([ $host->cmd('connect', $client) ], qr/give a client and a server/, 'tao connect of one');
fails_with([ $host->cmd('connect', $client, "$dir/nothing") ], qr/no such program/, 'or of what is not there');

# --- a restart

$id = fresh();
my $spent = fresh();
is(parse(psk_server($s, $spent))->{3}, $c->{name}, 'one spent, one not, before a restart');
($unused) = nonces($c);
$key = parse(group_key($c, @members));
$host->down;
ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], 'taod is started again');
again($_) for $c, $s, $t, $twin;
is(parse(psk_server($s, fresh()))->{3}, $c->{name}, 'programs that run go on');
none(psk_server($s, $spent), qr/the identity was made \d+ seconds (?:ago|from now): check the clocks/, 'what was spent stays so');
none(psk_server($s, $id), qr/the identity was made \d+ seconds (?:ago|from now): check the clocks/, 'and what was not is void');
my $s_share = parse(group_server($s, client_share((nonces($c))[0])))->{3};
refused(EDENIED, group_client($c, client_share($unused), $s_share), qr/not drawn/, 'as are nonces');
is(parse(group_key($c, @members))->{2}, $key->{2}, 'the epoch is the same one');
finish($_) for $c, $s, $t, $twin, $c2;

# --- a full table

sub other_host {
	my $host = start_host(conf => $_[0]);
	$host->tao('trust', $server, '--serves', $NAME);
	$host->tao('connect', $_, $server) for $client, $third;
	return ($host, map { start($host, $_) } $client, $server, $third);
}
($host, $c, $s, $t) = other_host("max_channel_nonces = 64\n");
my @answers = map { psk_server($s, fresh($c)) } 1 .. 18;
is(scalar(grep { length(parse($_)->{2} // '') == 32 } @answers), 16, 'a pair has its part of the table');
none($answers[-1], qr/max_channel_nonces/, 'a full one refuses');
@answers = map { psk_server($s, fresh($t)) } 1 .. 17;
is(scalar(grep { length(parse($_)->{2} // '') == 32 } @answers), 16, 'other pairs have theirs');
# All of this user: half of the room. Its clients get no more, by groups either; those of another user do.
my $none = client_share((nonces($c))[0]);
refused(ELIMIT, group_client($c, $none, parse(group_server($s, $none))->{3}), qr/max_channel_nonces/, 'one user has half of it');
SKIP: {
	my @nobody = qw(setpriv --reuid=65534 --regid=65534 --clear-groups);
	skip 'another user can only be had by root', 2 if $> != 0;
	skip 'another user cannot execute programs of the build tree', 2 if run(@nobody, 'test', '-x', bin('tao'))->{status} != 0;
	chmod 0755, $dir;
	ok_run([ $host->cmd(@$_, '--any-user') ], "@$_[0]: a client of any user") for [ 'trust', $client ], [ 'connect', $client, $server ];
	my $n = start($host, $client, @nobody);
	@answers = map { psk_server($s, fresh($n)) } 1 .. 17;
	is(scalar(grep { length(parse($_)->{2} // '') == 32 } @answers), 16, 'those of another have room');
	none(psk_server($s, fresh($c)), qr/max_channel_nonces/, 'and the first has not more for it');
	finish($n);
}
finish($_) for $c, $s, $t;

# --- epochs

($host, $c, $s, $t) = other_host("channel_epoch = 6\nchannel_overlap = 3\n");
$id = fresh($t);
my $root = $host->dir . '/host/channel/epoch-' . unpack('N', substr $id, EPOCH, 4);
ok(-e $root, 'an epoch has its file');
$key = group_key($t, map { $_->{name} } $t, $s);
ok(wait_for(sub { return !-e $root }, 60), 'which ends with it');
none(psk_server($s, $id), qr/epoch/, 'an identity of an epoch that is over');
isnt(parse(group_key($t, map { $_->{name} } $t, $s))->{2}, parse($key)->{2}, 'whose keys are gone');
is(scalar(grep { !m{/epoch-\d+$} } glob $host->dir . '/host/channel/*'), 0, 'and nothing else is left');
cmp_ok(scalar(() = glob $host->dir . '/host/channel/*'), '<=', 3, 'than three epochs');
is(parse(psk_server($s, fresh($t)))->{3}, $t->{name}, 'and in the next one all is well');
finish($_) for $c, $s, $t;
spew($host->dir . '/taod.conf', "channel_epoch = 4\nchannel_overlap = 5\n");
ok_run([ $host->cmd('down') ], 'a host that runs is ended whatever its file says by now');
fails_with([ $host->cmd('up', '--foreground', '--passphrase-file', $host->passfile) ],
	qr/channel_overlap = 5 is longer than channel_epoch = 4/, 'an overlap longer than an epoch');

# --- a clock that is behind: which identities were answered already, the host cannot know

SKIP: {
	my ($lib) = glob '/usr/lib/*/faketime/libfaketimeMT.so.1';
	skip 'a clock that is set back: faketime is not installed', 12 if !defined $lib;
	skip 'a clock that is set back: not with sanitizers', 12 if config('TAO_ASAN');
	mkdir "$dir/clock" or die; # the host's own: there it may read
	my $now = "$dir/clock/now";
	my $set = sub { # atomically: it is read all the time
		spew("$now.new", "$_[0]\n");
		rename "$now.new", $now or die "$now: $!\n";
	};
	$set->('+0');
	$host = start_host(dir => "$dir/clock", env => { LD_PRELOAD => $lib, FAKETIME_TIMESTAMP_FILE => $now, FAKETIME_NO_CACHE => 1,
		FAKETIME_DONT_FAKE_MONOTONIC => 1, NO_FAKE_STAT => 1 });
	$host->tao('trust', $server, '--serves', $NAME);
	$host->tao('connect', $client, $server);
	($c, $s) = map { start($host, $_) } $client, $server;
	is(parse(psk_server($s, fresh()))->{3}, $c->{name}, 'a host whose clock is right answers');
	$set->('-4m');
	is(parse(psk_server($s, fresh()))->{3}, $c->{name}, 'so does one that is four minutes behind its start');
	my $good = fresh();
	$set->('-10m');
	my $why = qr/^the clock was set back, so no pre-shared key is used: restart the host, if the clock is right now$/;
	none(psk_client($c), $why, 'ten minutes behind, no identity is made');
	none(psk_server($s, $good), $why, 'and none is answered');
	none(psk_server($s, altered($good, TIME, pack 'N', time - 600)), $why, 'whatever its time');
	$share = client_share((nonces($c))[0]);
	is(length parse(group_client($c, $share, parse(group_server($s, $share))->{3}))->{1}, 32, 'groups go on');
	like($host->tao('status')->{out}, qr/^warning +the clock was set back: Tao channels have no pre-shared keys/m, 'tao status says so');
	$set->('+0');
	is(parse(psk_server($s, $good))->{3}, $c->{name}, 'at the right time what was made before is good');
	none(psk_server($s, $good), qr/used before/, 'once');
	$set->('-10m');
	none(psk_client($c), $why, 'behind again');
	$host->tao('down');
	ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], 'a restart with the clock as it is', { env => $host->{env} });
	again($_) for $c, $s;
	is(parse(psk_server($s, fresh()))->{3}, $c->{name}, 'and pre-shared keys are used again');
	finish($_) for $c, $s;
}

done_testing();
