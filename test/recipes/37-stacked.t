# Hosts on hosts: taod as a program of another taod, two and three levels deep,
# with real programs at the innermost.
use strict;
use warnings;

use File::Copy qw(copy);
use JSON::PP;
use Test::More;
use TaoRaw qw(field);
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $tao = bin('tao');
my $dir = tmpdir();

sub stacked {
	my ($parent, $name, @init) = @_;
	return start_host(env => { TAO_DIR => $parent->dir }, dir => "$dir/$name",
		init => [ '--root', 'parent', '--domain', $name ]);
}
sub status { return decode_json($_[0]->tao('--json', 'status')->{out} || '{}') }
sub up { return $_[0]->tao('up', @_[1 .. $#_]) }
sub taod_conf {
	my ($host, $line) = @_;
	spew($host->dir . '/taod.conf', slurp($host->dir . '/taod.conf') . "$line\n");
}
sub pb_varint {
	my ($p) = @_;
	my ($v, $shift) = (0, 0);
	while (1) {
		my $c = ord substr $$p, 0, 1, '';
		$v |= ($c & 0x7f) << $shift;
		return $v if $c < 0x80;
		$shift += 7;
	}
}
# An attestation's fields; those that are written again are in the order of their numbers.
sub fields {
	my ($p) = @_;
	my %f;
	while (length $p) {
		my $tag = pb_varint(\$p);
		$f{ $tag >> 3 } = substr $p, 0, pb_varint(\$p), '';
	}
	return \%f;
}
sub attestation {
	my ($f) = @_;
	return join '', map { field($_, $f->{$_}) } sort { $a <=> $b } keys %$f;
}

# --- made without a passphrase, and without keys

my $outer = start_host();
my $root = (status($outer)->{principal} =~ /^(key\(\[[0-9a-f]{64}\]\))/)[0];
my $new = "$dir/new";
my $r = ok_run([ $tao, '-d', $new, qw(init --root parent --domain Second) ], 'tao init --root parent',
	{ stdin => '' });
unlike($r->{out}, qr/passphrase/, 'asks for no passphrase');
is(join(' ', glob("$new/host/* $new/domain/*")), "$new/host/new", 'makes no key');
fails_with([ $tao, '-d', "$dir/no", qw(init --root tpm0) ], qr/--root.*soft.*parent/, 'a root that is none');
ok(!-e "$dir/no", 'makes nothing');
fails_with([ $tao, '-d', "$dir/no", qw(init --root parent --domain), 'x' x 65 ], qr/1 to 64 bytes/,
	'nor does a domain\'s name that is too long');
spew("$dir/conf", slurp("$new/taod.conf"));
spew("$new/taod.conf", "root = moon\n");
fails_with([ bin('taod'), '-d', $new, '--test' ], qr/root = moon: give soft or parent/, 'nor in taod.conf');
spew("$new/taod.conf", slurp("$dir/conf"));
fails_with([ bin('taod'), '-d', $new, '--foreground' ], qr/root in a parent: start it with .*tao run/,
	'taod alone says where it wants to be', { env => { TAO_SOCKET => $outer->dir . '/run/tao.sock' } });
fails_with([ bin('taod'), '-d', $new ], qr/no Tao host answers/, 'or that its parent is away',
	{ env => { TAO_SOCKET => "$dir/none" } });
fails_with([ $tao, '-d', $new, 'up' ], qr/parent = DIRECTORY/, 'a host is not its own parent',
	{ env => { TAO_DIR => $new } });
is(join(' ', glob("$new/host/* $new/domain/*")), "$new/host/new", 'and there is still no key');

# --- two levels

my $inner = stacked($outer, 'inner');
my $s = status($inner);
my $id = $s->{domain};
my $host_name = $s->{principal};
is($s->{root}, 'parent', 'tao status: the root');
is($s->{development}, status($outer)->{development}, 'a development host on a development host, else a system\'s');
like($s->{parent}, qr/^\Q$root\E\.DatalogGuard\(.*\)\.Measured\(\[[0-9a-f]{64}\], \[[0-9a-f]{64}\], $<\)\.PolicyKey\(\[[0-9a-f]{64}\]\)$/,
	'the parent\'s name for it');
is($host_name, "$s->{parent}.DatalogGuard(key([$id]))", 'its own has the guard behind');
isnt($id, status($outer)->{domain}, 'its domain is its own');
cmp_ok($s->{delegated_until}, '>', time + 20 * 86400, 'the delegation holds for weeks');
is(status($outer)->{parent}, undef, 'a soft root has no parent');
like($inner->tao('status')->{out}, qr/^parent +key\(.*^delegation +until 20/ms, 'tao status says so');
ok(!-e $inner->dir . '/host/new', 'the first start made the keys');
is(join(' ', grep { (stat)[2] & 077 } glob($inner->dir . '/host/*')), '', 'for the owner alone');
unlike($inner->tao('doctor')->{out}, qr/parent does not/, 'tao doctor finds nothing wrong');
like($inner->tao('up')->{out}, qr/running already/, 'tao up twice');

# What a program is called, signs and states below it.
sub work_below {
	my ($host, $levels) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $name = ok_run([ $host->cmd('run', '--', $tao, 'name') ], 'a program')->{out};
	my $program = qr/\.Measured\(\[[0-9a-f]{64}\], \[[0-9a-f]{64}\], $<\)\.PolicyKey\(\[[0-9a-f]{64}\]\)/;
	my $guard = qr/\.DatalogGuard\(key\(\[[0-9a-f]{64}\]\)\)/;
	like($name, qr/^\Q$root\E(?:$guard$program){$levels}$/, "shows the stack, $levels levels");
	chomp $name;

	ok_run([ $host->cmd('run', '--', $tao, 'attest', '--out', "$dir/att$levels", 'Fine(1)') ], 'tao attest');
	$r = ok_run([ $tao, '--json', 'verify', '--trust', $root, "$dir/att$levels" ], 'verifies from the root');
	my $said = eval { decode_json($r->{out}) } // {};
	is($said->{root}, $root, 'which is the outermost host\'s key');
	like($said->{speaker}, qr/^\Q$root\E(?:$guard$program){$levels}$/, 'and the speaker the program');
	like(ok_run([ $tao, qw(compat attestation --trust), $root, "$dir/att$levels" ], 'tao compat attestation')->{out},
		qr/Fine\(1\)/, 'reads it too');

	ok_run([ $host->cmd('trust', $openssl, '--serves', 'localhost') ], 'tao trust');
	ok_run([ $host->cmd(qw(key new web --for), $openssl) ], 'tao key new');
	my @openssl = $host->cmd('run', '--', $openssl);
	spew("$dir/msg", "to be signed\n");
	ok_run([ @openssl, qw(dgst -sha256 -sign tao:web -out), "$dir/sig", "$dir/msg" ], 'a sealed key signs');
	spew("$dir/pub", ok_run([ @openssl, qw(pkey -pubout -in tao:web) ], 'its public key')->{out});
	ok_run([ $openssl, qw(dgst -sha256 -verify), "$dir/pub", '-signature', "$dir/sig", "$dir/msg" ], 'agrees');
	my $port = free_port();
	my $server = spawn(@openssl, qw(s_server -tls1_3 -accept), "127.0.0.1:$port",
		qw(-cert tao:web -key tao:web -Verify 1 -verify_return_error -rev -CAfile), $host->dir . '/policy.pem');
	ok($server->wait_for_line(qr/ACCEPT/, 20), 's_server') or diag $server->log;
	$r = run(@openssl, 's_client', '-connect', "127.0.0.1:$port", '-CAfile', $host->dir . '/policy.pem',
		qw(-cert tao:web -key tao:web -verify_hostname localhost -verify_return_error -ign_eof),
		{ stdin => "stacked\nCLOSE\n", timeout => 20 });
	like($r->{out}, qr/dekcats$/m, 'TLS with program certificates, both verified') or diag $r->{out}, $r->{err}, $server->log;
	like($r->{out}, qr/Verify return code: 0 \(ok\)/, 'the certificate of a long name');
	$server->stop;
	my $urn = ok_run([ @openssl, qw(x509 -noout -ext subjectAltName -in tao:web) ], 'its name')->{out};
	my $n = () = $urn =~ /\.Measured\(/g;
	is($n, $levels, 'is whole in the certificate');
	return $name;
}
my $name = work_below($inner, 2);

# --- what verifiers refuse

my $att = slurp("$dir/att2");
sub refused {
	my ($what, $like, $bytes, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	fails_with([ $tao, 'verify', '--trust', $root, @options, spew("$dir/bad", $bytes) ], $like, $what);
}
fails_with([ $tao, 'verify', '--trust', status($inner)->{parent} =~ s/PolicyKey.*//r =~ s/^key\(\[../key([00/r =~ s/\..*//r,
	"$dir/att2" ], qr/root that is not trusted/, 'another root is refused');
my $top = fields($att);
ok(defined $top->{5}, 'the chain has a delegation');
ok_run([ $tao, 'verify', '--trust', $root, spew("$dir/bad", attestation({ %$top, 5 => attestation(fields($top->{5})) })) ],
	'which is taken apart here and put together again');
my $unsigned = qr/signature does not verify/;
my %why = (1 => $unsigned, 3 => qr/not a public key/, 4 => $unsigned);
for my $field (sort keys %why) {
	my $d = fields($top->{5});
	substr($d->{$field}, length($d->{$field}) - 3, 1) ^= "\1";
	refused("a delegation altered in field $field", $why{$field}, attestation({ %$top, 5 => attestation($d) }));
}
refused('none at all', qr/no delegation/, attestation({ map { $_ => $top->{$_} } 1 .. 4 }));
my $other = stacked($outer, 'other');
ok_run([ $other->cmd('run', '--', $tao, 'attest', '--out', "$dir/att-other", 'Fine(1)') ], 'a host beside it attests');
refused('another host\'s delegation', qr/another key/, attestation({ %$top, 5 => fields(slurp("$dir/att-other"))->{5} }));
my $said = decode_json(run($tao, '--json', 'verify', '--trust', $root, "$dir/att2")->{out});
cmp_ok($said->{until}, '<=', (status($inner)->{delegated_until} + 1) * 1e9, 'a statement holds as long as the delegation');
refused('an expired delegation', qr/has expired/, $att, '--at', $said->{until} + 1);

# The guard is for hosts: whoever takes it gains no name that is not its own.
$r = run($outer->cmd('run', '--', $tao, 'extend', ".DatalogGuard(key([$id]))"));
is($r->{status}, 0, 'a program may put a guard behind its name') or diag $r->{err};
fails_with([ $outer->cmd('run', '--', $tao, 'extend', '.DatalogGuard(key([' . status($outer)->{domain} . ']))') ],
	qr/only a host/, 'but not that of its own host');
fails_with([ $outer->cmd('run', '--', $tao, 'extend', ".DatalogGuard(key([$id])).Measured([00], [00], 0)") ],
	qr/only a host/, 'nor more behind it');
fails_with([ $outer->cmd('run', '--', $tao, 'attest', '--issuer', "$host_name", 'Fine(2)') ],
	qr/itself or as one of its subprincipals/, 'nobody but it speaks for the stacked host');

# --- started again

sub same_again {
	my ($what) = @_;
	is(status($inner)->{principal}, $host_name, "$what: the same name");
	is(run($inner->cmd('run', '--', $tao, 'name'))->{out}, "$name\n", 'so have its programs');
	is(run($inner->cmd('run', '--', $openssl, qw(pkey -pubout -in tao:web)))->{out}, slurp("$dir/pub"), 'its keys open');
}
$inner->tao('down');
is(up($inner)->{status}, 0, 'tao down, tao up') or diag slurp($inner->dir . '/taod.log');
same_again('started again');
my $killed = status($inner)->{pid};
kill 'KILL', $killed;
ended($killed);
my $front = spawn($inner->cmd('up', '--foreground'), { env => { TAO_DIR => $outer->dir } });
ok($front->wait_for_line(qr/serves/, 20), 'killed, and started in the foreground') or diag $front->log;
is(status($inner)->{pid}, $front->pid, 'where it stays the process that was started');
same_again('so');
$front->stop;

# In an instance of the parent: tao up makes taod a program of its own.
$r = run($outer->cmd('run', '--', 'sh', '-c', "$tao -d " . $inner->dir . ' up'), { env => { TAO_DIR => undef } });
taod_conf($inner, 'parent = ' . $outer->dir);
$r = run($outer->cmd('run', '--', 'sh', '-c', "$tao -d " . $inner->dir . ' up')) if $r->{status} != 0;
is($r->{status}, 0, 'tao up from inside an instance') or diag $r->{err};
same_again('there');
$inner->tao('down');

# Other arguments, another name; the domain goes along.
ok(!-e $inner->dir . '/run/tao.sock', 'it is down');
mkdir "$dir/link" or die;
symlink $inner->dir, "$dir/link/inner" or die;
my $linked = spawn($outer->cmd('run', '--', bin('taod'), '-d', "$dir/link/inner", '--foreground'));
ok($linked->wait_for_line(qr/serves/, 20), 'started with other arguments') or diag $linked->log;
my $renamed = status($inner);
isnt($renamed->{principal}, $host_name, 'its name is another');
is($renamed->{domain}, $id, 'its domain is the same');
my $facts = $inner->tao(qw(policy show))->{out};
like($facts, qr/TrustedHost\(\Q$renamed->{principal}\E\)/, 'which trusts it by that name');
unlike($facts, qr/TrustedHost\(\Q$host_name\E\)/, 'and no longer by the old one');
ok_run([ $inner->cmd('run', '--', $openssl, qw(x509 -noout -in tao:web)) ], 'certificates are of the new one');
$linked->stop;

# --- who does not get its secret

sub starts_not {
	my ($what, $like, @cmd) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	fails_with([ @cmd ], $like, $what, { timeout => 30 });
}
my @run = $outer->cmd('run', '--');
copy(bin('taod'), "$dir/taod") or die;
open my $fh, '>>', "$dir/taod" or die;
print $fh "\0";
close $fh;
chmod 0755, "$dir/taod";
taod_conf($inner, 'provider = ' . module_dir() . '/tao.so');
my ($hash) = map { /^(\w{64})/ } run('sha256sum', "$dir/taod")->{out};
my ($old) = map { /^(\w{64})/ } run('sha256sum', bin('taod'))->{out};
starts_not('another taod is refused, and what to do if it is an upgrade can be copied', qr/sealed for another taod.*"tao policy add 'Successor\(\[$hash\], \[$old\]\)'"/,
	@run, "$dir/taod", '-d', $inner->dir, '--foreground');
ok_run([ $outer->cmd('policy', 'add', "Successor([$hash], [$old])") ], 'the parent\'s domain calls it a successor');
my $upgraded = spawn(@run, "$dir/taod", '-d', $inner->dir, '--foreground');
ok($upgraded->wait_for_line(qr/serves/, 20), 'then it is the upgrade') or diag $upgraded->log;
like(status($inner)->{principal}, qr/\.Measured\(\[$hash\]/, 'by its name');
is(run($inner->cmd('run', '--', $openssl, qw(pkey -pubout -in tao:web)))->{out}, slurp("$dir/pub"), 'with the same keys');
$upgraded->stop;

my $elsewhere = start_host();
starts_not('another parent is refused', qr/sealed by another parent/, $elsewhere->cmd('run', '--', bin('taod'), '-d', $inner->dir, '--foreground'));
my $sealed = slurp($inner->dir . '/host/secret.sealed');
my $path = $inner->dir . '/host/secret.sealed';
for ([ 'cut', substr($sealed, 0, 20), qr/not the secret/ ], [ 'empty', '', qr/not the secret/ ],
	[ 'of a newer version', $sealed =~ s/ 1\n/ 2\n/r, qr/newer version/ ],
	[ 'altered', substr($sealed, 0, -1) . (substr($sealed, -1) ^ "\1"), qr/altered/ ],
	[ 'cut short', substr($sealed, 0, -9), qr/altered|cut/ ]) {
	my ($what, $bytes, $like) = @$_;
	spew($path, $bytes);
	starts_not("a secret that is $what", $like, @run, bin('taod'), '-d', $inner->dir, '--foreground');
}
unlink $path;
starts_not('a secret that is missing', qr/missing.*put a copy of it back/, @run, bin('taod'), '-d', $inner->dir, '--foreground');
spew($path, $sealed);
chmod 0600, $path;
spew("$new/host/new", "tao new host 1\nSecond");
starts_not('a first start whose file was changed', qr/was changed/, @run, bin('taod'), '-d', $new, '--foreground');

# A first start that was interrupted begins anew.
spew("$new/host/new", "tao new host 1\nSecond\n");
spew("$new/host/root.key", 'half');
my $second = spawn(@run, bin('taod'), '-d', $new, '--foreground');
ok($second->wait_for_line(qr/serves/, 20), 'an interrupted first start begins anew') or diag $second->log;
like(ok_run([ $openssl, qw(x509 -noout -subject -in), "$new/policy.pem" ], 'with the domain')->{out}, qr/O ?= ?Second/,
	'of the name that was given');
$second->stop;

# --- the parent goes, and comes back

is(up($inner)->{status}, 0, 'the first taod, which the newer one had followed') or diag slurp($inner->dir . '/taod.log');
$inner->tao('down');
taod_conf($inner, 'delegation_lifetime = 4');
is(up($inner)->{status}, 0, 'a delegation of seconds') or diag slurp($inner->dir . '/taod.log');
my $until = status($inner)->{delegated_until};
ok(wait_for(sub { return status($inner)->{delegated_until} > $until + 4 }, 30), 'is renewed before it ends');
my @warnings = grep { /delegation/ } @{ status($inner)->{warnings} };
is("@warnings", '', 'nothing is wrong');
$outer->tao('down');
ok(wait_for(sub { return grep { /does not renew/ } @{ status($inner)->{warnings} } }, 30), 'without its parent it says so');
ok_run([ $inner->cmd('run', '--', $openssl, qw(dgst -sha256 -sign tao:web -out), "$dir/sig", "$dir/msg") ],
	'and signs with its keys');
spew("$dir/blob", ok_run([ $inner->cmd('run', '--', $tao, qw(seal --policy program)) ], 'seals', { stdin => 'x' })->{out});
is(ok_run([ $inner->cmd('run', '--', $tao, 'unseal', "$dir/blob") ], 'unseals')->{out}, 'x', 'all that it has');
ok(wait_for(sub { return $inner->tao('run', '--', $tao, 'attest', 'Fine(3)')->{err} =~ /delegation to this host has ended/ }, 30),
	'when the delegation has ended it makes no statement that nobody would believe');
like(slurp($inner->dir . '/taod.log'), qr/does not renew its delegation/, 'its log has it');
is($outer->tao('up', '--passphrase-file', $outer->passfile)->{status}, 0, 'the parent is back');
ok(wait_for(sub { return $inner->tao('run', '--', $tao, 'attest', 'Fine(4)')->{status} == 0 }, 40),
	'it knows its program again, which attests as before') or diag slurp($inner->dir . '/taod.log');
ok(!grep({ /does not renew/ } @{ status($inner)->{warnings} }), 'nothing is wrong any more');
like(slurp($inner->dir . '/taod.log'), qr/has renewed its delegation/, 'its log has that too');
$inner->tao('down');
is(up($inner)->{status}, 0, 'started again') or diag slurp($inner->dir . '/taod.log');
is($inner->tao('run', '--', $tao, 'attest', 'Fine(4)')->{status}, 0, 'it attests');

# --- three levels

my $third = stacked($other, 'third');
work_below($third, 3);
my $three = slurp("$dir/att3");
my $mid = fields(fields($three)->{5});
substr($mid->{5}, length($mid->{5}) - 3, 1) ^= "\1";
refused('a delegation altered below the last', $unsigned, attestation({ %{ fields($three) }, 5 => attestation($mid) }));
like(status($third)->{parent}, qr/^\Q@{[ status($other)->{principal} ]}\E\.Measured/, 'each stands on the one below');

done_testing();
