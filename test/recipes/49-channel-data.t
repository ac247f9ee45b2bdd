# Tao channels of Debian's databases, brokers and tools: the table is test/lib/TaoPairs.pm. Both ends know nothing of the
# Tao but `tao run`: which kind of channel they have, whom they see, who is refused. TAO_APPS names some of them.
use strict;
use warnings;
use Digest::SHA;
use IO::Socket::INET;
use Test::More;
use TaoDaemon;
use TaoPairs;
use TaoTest;

need_programs(qw(openssl));
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;

sub quietly { my $r = run(@_); $r->{status} == 0 or die "@_: $r->{out}$r->{err}" }

my %conf = (
	prefer => $host->conf('prefer'),
	group => $host->conf('group', 'psk = no'),
	psk => $host->conf('psk', 'group = no'),
	certificate => $host->conf('certificate', 'mode = certificate'),
	require => $host->conf('require', 'mode = require'),
	demand => $host->conf('demand', 'demand = yes', 'psk = no'),
	vpn => $host->conf('vpn', 'programs = tao_programs', '[tao_programs]', 'openvpn = tao_vpn', 'copy-openvpn = tao_vpn', '[tao_vpn]', 'mode = require'),
	twelve => $host->conf('twelve', 'tls12_psk = yes', 'group = no'),
);
# Not every program has a setting for the highest version.
spew($conf{twelve}, slurp($conf{twelve}) =~ s/^\[openssl_init\]\n/[openssl_init]\nssl_conf = tao_ssl\n/mr .
    "\n[tao_ssl]\nsystem_default = tao_system\n[tao_system]\nMaxProtocol = TLSv1.2\n");

sub as {
	my ($account) = @_;
	return () if !defined $account || $> != 0;
	return ('setpriv', "--reuid=$account", "--regid=$account", '--init-groups');
}
sub uid { return defined $_[0] && $> == 0 ? scalar getpwnam $_[0] : $> }
sub hash_of { return Digest::SHA->new(256)->addfile($_[0])->hexdigest }

# --- a server

my $server;

# Certificate and stub of a key for the server.
sub sealed {
	my ($app, $s, $kind) = @_;
	my $end = $app->{server};
	my $uid = uid($end->{account});
	my $name = $end->{args} ? "$app->{name}-$kind" : $app->{name};
	my @args = $end->{args} ? (qw(--policy exact --), $end->{args}->($s)) : ();
	my ($cert, $key) = map { "$state/$_/$uid/$name.pem" } qw(certs keys);
	quietly($host->cmd(qw(key new), $name, '--for', $end->{program}, '--user', $uid, @args)) if !-e $key;
	return ($cert, $key) if !$end->{private};
	spew("$s->{dir}/key.pem", slurp($key));
	chmod 0600, "$s->{dir}/key.pem";
	return ($cert, "$s->{dir}/key.pem");
}

# kind: a mode, in the Tao; or '' for outside, with a key in a file.
sub serve {
	my ($app, $s, $kind, $ask) = @_;
	$server->stop('INT') if $server; # PostgreSQL waits for its clients otherwise
	my $end = $app->{server};
	@$s{qw(port ask)} = (free_port(), $ask);
	# The host's own file: for what a key with --policy exact is for, another one is another program.
	spew("$state/openssl.cnf", slurp($conf{$kind})) if $kind;
	@$s{qw(cert key)} = $kind ? sealed($app, $s, $kind) : @{ $s->{file} };
	my @cmd = $end->{run}->($s);
	quietly('chown', '-R', uid($end->{account}), $s->{dir}) if $> == 0;
	$server = spawn(as($end->{account}), $kind ? $host->cmd(qw(run --quiet --)) : (), @cmd,
		{ dir => $s->{dir} });
	return if $server->wait_for_line($end->{ready}, 30);
	diag("$app->{name} does not start:\n", $server->log, $host->tao("log")->{out});
}

sub trust_client {
	my ($client, $program) = @_;
	quietly($host->cmd('trust', $program // $client->{program}, $client->{name} ? ('--serves', $client->{name}) : ()));
}

sub made {
	my ($app) = @_;
	my ($end, $client) = @$app{qw(server client)};
	my $s = { dir => "$dir/$app->{name}", host => $app->{host}, as => [ as($end->{account}) ], program => $client->{program},
		hash => hash_of($client->{program}), server_hash => hash_of($end->{program}) };
	mkdir $s->{dir};
	chown uid($end->{account}), -1, $s->{dir} if $> == 0;
	my $uid = uid($end->{account});
	quietly($host->cmd('trust', $end->{program}, '--serves', $app->{host}, '--user', $uid));
	trust_client($client) if $client->{program} ne $end->{program};
	quietly($host->cmd('connect', $client->{program}, $end->{program}, '--server-user', $uid));
	quietly('openssl', qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj), "/CN=$app->{host}",
		'-addext', "subjectAltName=DNS:$app->{host}", '-keyout', "$s->{dir}/file.key", '-out', "$s->{dir}/file.pem");
	$s->{file} = [ "$s->{dir}/file.pem", "$s->{dir}/file.key" ];
	$s->{clients} = "$state/policy.pem";
	return $s;
}

# Another program: the same one with a few bytes more.
sub copy {
	my ($name, $program) = @_;
	my $copy = spew("$dir/copy-$name", slurp($program) . $name);
	chmod 0755, $copy;
	return $copy;
}

# --- one connection

sub handshakes { return grep { /Tao\.Handshake/ } split /\n/, $host->tao('log')->{out} }

# What client, server and the host's log say. records: whose have to be there; kind '': outside of the Tao.
sub asks {
	my ($app, $s, $kind, %opt) = @_;
	my $client = $opt{client} // $app->{client};
	my %c = (%$s, version => $opt{version} // '1.3', program => $opt{program} // $client->{program}, ca => $opt{ca} // "$state/policy.pem");
	my ($before, $old) = (length $server->log, scalar handshakes());
	my @cmd = $client->{run}->(\%c);
	my $r = run($kind ? $host->cmd(qw(run --quiet --openssl-conf), $conf{$kind}, '--') : (), @cmd,
		{ stdin => $client->{stdin} // '', timeout => 30, env => { PGPASSFILE => '/nonexistent', HOME => $s->{dir}, PYTHONHOME => '/usr' } });
	my %t = (out => $r->{out} . $r->{err}, served => ($r->{out} . $r->{err}) =~ $client->{good} ? 1 : 0);
	wait_for(sub {
		my @new = handshakes();
		splice @new, 0, $old;
		for my $role (qw(client server)) { $t{$role} = (grep { /role=$role / } @new)[-1] // '' }
		return !grep { $t{$_} eq '' } @{ $opt{records} // [ $kind ? qw(client server) : 'server' ] };
	}, 5);
	$t{log} = substr $server->log, $before;
	return \%t;
}

sub say_all { my ($t) = @_; diag("client: $t->{out}\nserver: $t->{log}\n$t->{client}\n$t->{server}") }

# Both ends have such a channel with each other.
sub is_channel {
	my ($app, $s, $t, $mode, $what, %opt) = @_;
	my $good = ok($t->{served}, "$what: is served");
	my $hash = $opt{hash} // $s->{hash};
	$good &= like($t->{client}, qr/did=completed mode=$mode .*peer=\S*Measured\(\[$s->{server_hash}\]/, "$what: the client's record");
	$good &= like($t->{server}, qr/did=completed mode=$mode .*peer=\S*Measured\(\[$hash\]/, "$what: the server's record");
	my $group = $opt{group} // ($mode eq 'certificate' ? 0 : 1);
	for my $record (map { $t->{$_} } qw(client server)) {
		$good &= is($record =~ /group=tao_x25519/ ? 1 : 0, $group, "$what: " . ($group ? 'with' : 'without') . ' the group');
	}
	my $text = $t->{out} . $t->{log};
	my ($server_sees, $client_sees, $psk) = ($app->{server}{sees}, $app->{client}{sees}, $app->{client}{psk});
	$good &= like($text, $server_sees->($hash), "$what: the server sees the client's program") if $server_sees && $s->{ask};
	$good &= like($text, $client_sees->($s->{server_hash}), "$what: the client sees the server's") if $client_sees;
	$good &= is($text =~ $psk ? 1 : 0, $mode eq 'psk' ? 1 : 0, "$what: it knows of the PSK") if $psk;
	$good or say_all($t);
}

sub refused {
	my ($t, $role, $why, $what) = @_;
	my $good = ok(!$t->{served}, "$what: is refused");
	$good &= like($t->{$role}, qr/did=refused .*reason=.*$why/, "$what: a record says why") if $role;
	$good or say_all($t);
}

sub is_plain {
	my ($t, $what, $own) = @_;
	my $good = ok($t->{served}, "$what: is served");
	$good &= like($t->{server}, qr/did=completed mode=none/, "$what: and its record says that it was no channel");
	$good &= like($t->{server}, $own // qr/group=(?!tao)/, "$what: with a group of its own");
	$good or say_all($t);
}

# --- all that every pair does

sub program_policy {
	my ($app, $s) = @_;
	my ($client, $end) = @$app{qw(client server)};
	my $copy = copy($app->{name}, $client->{program});
	my @user = ('--server-user', uid($end->{account}));
	refused(asks($app, $s, 'prefer', program => $copy), 'client', qr/no rule lets/, "$app->{name}: a program that no rule names");
	refused(asks($app, $s, 'group', program => $copy), 'server', qr/no rule lets/, "$app->{name}: nor by the group");
	refused(asks($app, $s, 'certificate', program => $copy, records => ['server']), 'server', qr/the peer ended it: alert 40/, "$app->{name}: nor with certificates");
	quietly($host->cmd('connect', $copy, $end->{program}, @user));
	trust_client($client, $copy);
	my $t = asks($app, $s, 'prefer', program => $copy);
	if ($app->{name} eq 'postgres') {
		ok(!$t->{served}, 'postgres: one that a rule names, but pg_ident.conf does not');
		like($t->{server}, qr/did=completed mode=psk .*peer=\S*Measured\(\[@{[ hash_of($copy) ]}\]/, 'postgres: has a channel all the same') or say_all($t);
	} else {
		is_channel($app, $s, $t, 'psk', "$app->{name}: one that a rule names", hash => hash_of($copy));
	}
	quietly($host->cmd('revoke', $copy));
	refused(asks($app, $s, $_, program => $copy), 'client', qr/has revoked the program/, "$app->{name}: revoked, $_") for qw(prefer group certificate);
	quietly($host->cmd('revoke', $end->{program}));
	my %who = (prefer => 'client', group => $client->{program} eq $end->{program} ? 'client' : 'server', certificate => 'client');
	refused(asks($app, $s, $_), $who{$_}, qr/has revoked the program/, "$app->{name}: a server that is revoked, $_") for sort keys %who;
	quietly($host->cmd('revoke', $end->{program}, '--undo'));
}

sub runs {
	my ($app) = @_;
	my $name = $app->{name};
	my $s = made($app);
	serve($app, $s, 'prefer', 1);
	is_channel($app, $s, asks($app, $s, 'prefer'), 'psk', "$name: prefer");
	is_channel($app, $s, asks($app, $s, 'group'), 'group', "$name: without PSK");
	is_channel($app, $s, asks($app, $s, 'psk'), 'psk', "$name: without the group", group => 0);
	is_channel($app, $s, asks($app, $s, 'certificate'), 'certificate', "$name: certificate");
	is_channel($app, $s, asks($app, $s, 'require'), 'psk', "$name: a client that requires");
	for my $more (@{ $app->{more} // [] }) {
		my $what = $more->{program} =~ s{.*/}{}r;
		trust_client($more);
		quietly($host->cmd('connect', $more->{program}, $app->{server}{program}, '--server-user', uid($app->{server}{account})));
		is_channel($app, $s, asks($app, $s, 'prefer', client => $more), 'psk', $what, hash => hash_of($more->{program}));
	}
	doctored($app, $s) if $app->{doctor};
	program_policy($app, $s);
	serve($app, $s, 'prefer', 0);
	is_channel($app, $s, asks($app, $s, 'prefer'), 'psk', "$name: a server that asks for no certificate");
	is_plain(asks($app, $s, ''), "$name: a client without the Tao", $app->{groups});
	serve($app, $s, 'require', 0);
	is_channel($app, $s, asks($app, $s, 'prefer'), 'psk', "$name: a server that requires");
	refused(asks($app, $s, ''), 'server', qr/no (?:suitable key share|shared group)/, "$name: by it, a client without the Tao");
	serve($app, $s, 'demand', 0);
	is_channel($app, $s, asks($app, $s, 'prefer'), 'group', "$name: a server that demands");
	refused(asks($app, $s, ''), 'server', qr/peer did not return a certificate/, "$name: by it, a client without a certificate");
	serve($app, $s, '', 0);
	ok(asks($app, $s, '', ca => $s->{file}[0], records => [])->{served}, "$name: another server for the name, without the Tao");
	refused(asks($app, $s, 'prefer', ca => $s->{file}[0], records => ['client']), 'client', qr/no program that serves|the server ended it/, "$name: and a client in it");
	twelve($app, $s);
	$server->stop;
}

# TLS begins when the protocol is asked to.
sub doctored {
	my ($app, $s) = @_;
	my ($end, $tao) = ($app->{server}, bin('tao'));
	my @serves = ('trust', $end->{program}, qw(--serves localhost --user), uid($end->{account}));
	quietly($host->cmd(@serves));
	quietly($host->cmd('trust', $tao));
	quietly($host->cmd('connect', $tao, $end->{program}, '--server-user', uid($end->{account})));
	my $r = run($host->cmd(qw(run --quiet --)), $tao, 'doctor', "localhost:$s->{port}", { timeout => 60 });
	# PostgreSQL 17 takes TLS from the first byte as well.
	my ($version) = run($end->{program}, '--version')->{out} =~ /PostgreSQL\) (\d+)/;
	my $asked = ($version // 0) >= 17 ? '' : qr/^ok .*it speaks $app->{doctor}, and begins TLS.*/ms;
	like($r->{out}, qr/$asked^ok .*a Tao channel, by a pre-shared key.*^ok .*the server is \S*Measured/ms,
		"$app->{name}: tao doctor HOST:PORT") or diag($r->{out}, $r->{err});
	quietly($host->cmd(@serves, '--remove'));
}

sub twelve {
	my ($app, $s) = @_;
	serve($app, $s, 'twelve', 0);
	my $t = asks($app, $s, 'twelve', version => '1.2');
	my $good = is($t->{served}, $app->{twelve} ? 0 : 1, "$app->{name}: TLS 1.2");
	$good &= like($t->{out}, $app->{twelve}, "$app->{name}: its client wants to see a certificate") if $app->{twelve};
	$good &= like($t->{$_}, qr/did=completed mode=psk .*PSK/, "$app->{name}: with a PSK, says the $_") for qw(client server);
	$good or say_all($t);
	return if $app->{twelve};
	is_plain(asks($app, $s, '', version => '1.2'), "$app->{name}: TLS 1.2: a client without the Tao", qr/tls=771/);
	my $copy = copy("$app->{name}-twelve", $app->{client}{program});
	trust_client($app->{client}, $copy);
	ok(!asks($app, $s, 'twelve', version => '1.2', program => $copy)->{served}, "$app->{name}: TLS 1.2: a program that no rule names");
	quietly($host->cmd('connect', $copy, $app->{server}{program}, '--server-user', uid($app->{server}{account})));
	$t = asks($app, $s, 'twelve', version => '1.2', program => $copy);
	ok($t->{served} && $t->{server} =~ /mode=psk .*Measured\(\[@{[ hash_of($copy) ]}\]/, "$app->{name}: TLS 1.2: one that a rule names") or say_all($t);
	quietly($host->cmd('revoke', $copy));
	ok(!asks($app, $s, 'twelve', version => '1.2', program => $copy)->{served}, "$app->{name}: TLS 1.2: revoked");
}

# --- OpenVPN: both ends verify the certificate themselves, and tell TLS no name. So there are no PSKs, and the group only where
# it is required.

my $openvpn = '/usr/sbin/openvpn';

sub vpn_end {
	my ($role, $end, $ports, $trusted) = @_;
	my ($kind, $program) = ($end->{kind}, $end->{program} // $openvpn);
	my $name = $role . ($program eq $openvpn ? '' : '-copy');
	my ($cert, $key) = $kind ? map { "$state/$_/$>/vpn-$name.pem" } qw(certs keys) : ("$dir/vpn.pem", "$dir/vpn.key");
	quietly($host->cmd(qw(key new), "vpn-$name", '--for', $program)) if $kind && !-e $key;
	return spawn($kind ? $host->cmd(qw(run --quiet --openssl-conf), $conf{$kind}, '--') : (), $program, qw(--dev null --proto udp --dh none --verb 3
		--local 127.0.0.1 --remote 127.0.0.1 --lport), $ports->[0], '--rport', $ports->[1], "--tls-$role", '--cert', $cert, '--key', $key,
		'--ca', $trusted, qw(--tls-version-min 1.2 --ping 1 --connect-retry 1 1 --verify-x509-name vpn.test name));
}

# Both ends, until both are up or one has given up. It may not tell the other one why.
sub vpn {
	my ($server_end, $client_end) = @_;
	my @ports = (free_port(), free_port());
	my $old = handshakes();
	my @ends = (vpn_end('server', $server_end, \@ports, "$dir/vpn-ca.pem"),
		vpn_end('client', $client_end, [ reverse @ports ], "$dir/vpn-ca.pem"));
	my $up = sub { return 2 == grep { $_->log =~ /Initialization Sequence Completed/ } @ends };
	wait_for(sub { return $up->() || grep { $_->log =~ /TLS handshake failed/ } @ends }, 40);
	my %t = (served => $up->() ? 1 : 0);
	my @new = handshakes();
	for my $role (qw(client server)) { $t{$role} = (grep { /role=$role / } @new[$old .. $#new])[0] // '' }
	$_->stop for @ends;
	@t{qw(log out)} = map { $_->log } @ends;
	return \%t;
}

sub openvpn {
	my $hash = hash_of($openvpn);
	my $copy = copy('openvpn', $openvpn);
	my $app = { server => { sees => sub { qr/VERIFY OK: depth=0, .*Measured.*$_[0]/ } }, client => { sees => sub { qr/VERIFY OK: depth=0, .*Measured.*$_[0]/ } } };
	my $s = { hash => $hash, server_hash => $hash, ask => 1 };
	quietly('openssl', qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=vpn.test -keyout), "$dir/vpn.key", '-out', "$dir/vpn.pem");
	spew("$dir/vpn-ca.pem", slurp("$dir/vpn.pem") . slurp("$state/policy.pem"));
	quietly($host->cmd('trust', $_, '--serves', 'vpn.test')) for $openvpn, $copy;
	quietly($host->cmd('connect', $openvpn, $openvpn));
	my %end = (prefer => { kind => 'prefer' }, require => { kind => 'vpn' });
	my $plain = { kind => '' };
	my $wrong = { kind => 'vpn', program => $copy };
	is_channel($app, $s, vpn($end{prefer}, $end{prefer}), 'certificate', 'openvpn: prefer');
	is_channel($app, $s, vpn($end{require}, $end{require}), 'group', 'openvpn: require');
	is_plain(vpn($end{prefer}, $plain), 'openvpn: a client without the Tao');
	refused(vpn($end{require}, $plain), 'server', qr/no (?:suitable key share|shared group)/, 'openvpn: one, where it is required');
	refused(vpn($plain, $end{require}), undef, undef, 'openvpn: a server without the Tao, where it is required');
	refused(vpn($end{require}, $wrong), 'server', qr/no rule lets/, 'openvpn: a program that no rule names');
	refused(vpn($end{prefer}, { %$wrong, kind => 'prefer' }), 'client', qr/no rule lets/, 'openvpn: nor with certificates');
	quietly($host->cmd('connect', $copy, $openvpn));
	is_channel($app, $s, vpn($end{require}, $wrong), 'group', 'openvpn: one that a rule names', hash => hash_of($copy));
	quietly($host->cmd('revoke', $copy));
	refused(vpn($end{require}, $wrong), 'client', qr/has revoked the program/, 'openvpn: revoked');
	refused(vpn($end{prefer}, { %$wrong, kind => 'prefer' }), 'client', qr/has revoked the program/, 'openvpn: nor with certificates');
}

# --- all of them

my %only = map { $_ => 1 } split ' ', $ENV{TAO_APPS} // '';
for my $app (pairs()) {
	next if %only && !$only{ $app->{name} };
	SKIP: {
		my @missing = grep { !-e } map { $app->{$_}{program} } qw(server client);
		skip "$app->{name}: the Debian package $app->{package} is not installed", 1 if @missing;
		my $other = other_openssl(map { $app->{$_}{program} } qw(server client));
		skip "$app->{name}: $other", 1 if $other;
		skip "$app->{name}: $app->{heavy}: runtests --all runs it", 1 if $app->{heavy} && !$ENV{TAO_TEST_ALL} && !%only;
		skip "$app->{name}: it does not run with the sanitizers' runtime", 1 if $app->{no_asan} && config('TAO_ASAN');
		my @as = as($app->{server}{account});
		skip "$app->{name}: its account cannot reach the build tree", 1
		    if @as && run(@as, 'test', '-r', module_dir() . '/tao.so')->{status} != 0;
		runs($app);
	}
}

SKIP: {
	last SKIP if %only && !$only{openvpn};
	skip "openvpn: $openvpn is not installed", 1 if !-e $openvpn;
	skip 'openvpn: it waits a second at a time: runtests --all runs it', 1 if !$ENV{TAO_TEST_ALL} && !%only;
	openvpn();
}

done_testing();
