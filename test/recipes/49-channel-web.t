# Tao channels between Debian's curl, nginx, Apache httpd, HAProxy and stunnel, every client with every
# server, configured as without the Tao (test/lib/TaoWeb.pm): what both ends see, who is refused.
use strict;
use warnings;
use IO::Socket::INET;
use Test::More;
use TaoTest;
use TaoWeb;

need_programs(qw(openssl curl));
my $all = $ENV{TAO_TEST_ALL};
my $curl = '/usr/bin/curl';
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;
my $root = $> == 0;

my (%server, %relay);
{
	my (%s, %r) = ();
	%s = servers();
	%r = relays();
	my %only = map { $_ => 1 } split ' ', $ENV{TAO_APPS} // '';
	for my $name (sort keys %s) {
		next if %only && !$only{$name};
		if (!-e $s{$name}{program}) {
			note("$name: the Debian package $s{$name}{package} is not installed");
			next;
		}
		if (my $other = other_openssl($s{$name}{program})) {
			note("$name: $other");
			next;
		}
		($server{$name}, $relay{$name}) = ($s{$name}, $r{$name});
	}
}
my @names = sort keys %server;
plan(skip_all => 'none of the servers is installed, with the OpenSSL of the modules') if !@names;
my $has_curl = !config('TAO_ASAN'); # it does not run with the sanitizers' runtime

# --- policy

sub quietly { my $r = run(@_); $r->{status} == 0 or die "@_: $r->{out}$r->{err}"; return $r }

my @peers = ('peers = by_name', '[by_name]', '*.cert.test = certificate');
my %cnf = (
	prefer => $host->conf('prefer', @peers),
	group => $host->conf('group', 'psk = no', @peers),
	require => $host->conf('require', 'mode = require'),
	demand => $host->conf('demand', 'demand = yes'),
	twelve => $host->conf('twelve', 'tls12_psk = yes', 'group = no'),
	certificate => $host->conf('certificate', 'mode = certificate'),
	off => $host->conf('off', 'mode = off'),
);

sub trust { quietly($host->cmd('trust', $_[0], map { ('--serves', $_) } @_[1 .. $#_])) }

# Another program: one byte more.
sub copy_of {
	my ($program, $n) = @_;
	my $to = "$dir/copy$n-" . $program =~ s{.*/}{}r;
	spew($to, slurp($program) . 'x' x $n);
	chmod 0755, $to;
	return $to;
}

trust($curl);
for my $name (@names) {
	quietly($host->cmd('key', 'new', $name, '--for', $server{$name}{program}));
	trust($server{$name}{program}, "$name.test", "$name.cert.test", "$name.other.test");
	quietly($host->cmd('run', '--prepare', $server{$name}{program})) if $server{$name}{bundle};
	quietly($host->cmd('connect', $_, $server{$name}{program})) for $curl, map { $_->{program} } values %relay;
}

trust($server{apache}{program}, 'localhost') if $server{apache};

# A server of another authority.
quietly(qw(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=elsewhere
	-addext), 'subjectAltName=DNS:else.test,' . join(',', map { "DNS:$_.test" } @names), '-keyout', "$dir/else.key", '-out', "$dir/else.pem");
spew("$dir/ca.pem", slurp("$state/policy.pem") . slurp("$dir/else.pem"));

# --- starting them

my $n = 0;
sub directory {
	my ($name) = @_;
	my $d = "$dir/$name" . $n++;
	mkdir $d;
	return $d;
}

sub logs { my ($s) = @_; return join '', $s->{process}->log, map { slurp($_) } grep { -e } "$s->{dir}/error.log", "$s->{dir}/stunnel.log" }

sub listening { return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $_[0], Timeout => 5) }

# In `tao run` with that configuration, or without one; it is waited for in ready().
sub start {
	my ($app, $conf, $s) = @_;
	$s = { %$app, user => $root, dir => directory($app->{name}), ca => "$dir/ca.pem", else => "$dir/else.pem", other => "$app->{name}.other.test", %$s };
	my @cmd = $app->{command}->($s);
	$s->{process} = spawn($conf ? $host->cmd('run', '--quiet', '--openssl-conf', $cnf{$conf}, '--') : (), @cmd, { dir => $s->{dir} });
	return $s;
}

sub stop {
	$_->{process}->alive && kill 'TERM', $_->{process}->pid for @_; # all at once
	$_->{process}->stop for @_;
}

sub ready {
	for my $s (@_) {
		my @ports = $s->{to} ? map { $_->{local} } @{ $s->{to} } : @$s{qw(asks open)};
		for my $port (@ports) {
			wait_for(sub { !$s->{process}->alive || listening($port) }, 30);
		}
		$s->{process}->alive or diag("$s->{name} does not run:", logs($s));
	}
	return @_;
}

sub start_server {
	my ($name, $conf, %more) = @_;
	my %files = map { $_->[0] => "$state/$_->[1]/$>/$name.pem" } ([ cert => 'certs' ], [ key => 'keys' ]);
	my %s = (asks => free_port(), open => free_port(), %files, %more, bundle => "$dir/$name-bundle.pem");
	spew($s{bundle}, slurp($files{cert}) . slurp($files{key})) if $server{$name}{bundle};
	return start($server{$name}, $conf, \%s);
}

sub start_relay {
	my ($name, $conf, $to, %more) = @_;
	return start({ %{ $relay{$name} }, %more }, $conf, { to => [ map { { %$_, local => free_port() } } @$to ] });
}

# --- asking

sub target { my ($s, $port, $name) = @_; return { host => $name // "$s->{name}.test", port => $s->{$port}, server => $s } }

# Through a relay, without TLS to it: all that comes back.
sub get {
	my ($relay, $to) = @_;
	my ($way) = grep { $_->{host} eq $to->{host} && $_->{port} == $to->{port} } @{ $relay->{to} };
	my $c = listening($way->{local}) or return '';
	local $SIG{ALRM} = sub { shutdown $c, 2 };
	local $SIG{PIPE} = 'IGNORE';
	alarm 30;
	print $c "GET /index.html HTTP/1.0\r\nHost: $to->{host}\r\n\r\n";
	my $text = join '', <$c>;
	alarm 0;
	return $text;
}

sub curl {
	my ($run, $to, @more) = @_;
	my $page = $to->{page} // 'index.html';
	my $r = run(@$run, qw(-sS -i -v --max-time 30 --resolve), "$to->{host}:$to->{port}:127.0.0.1", @more, "https://$to->{host}:$to->{port}/$page");
	return $r->{out} . $r->{err};
}

sub hosted { my ($conf, $program) = @_; return [ $host->cmd('run', '--quiet', '--openssl-conf', $cnf{$conf}, '--', $program // $curl) ] }

# A client: its name, and a sub that asks a target and returns the answer with what it saw of the server.
sub by_curl {
	my ($run, @more) = @_;
	return { name => 'curl', program => $run->[-1], ask => sub {
		my $text = curl($run, $_[0], @more);
		return ($text, $text =~ /^\*  subject: (.*)$/m ? $1 : '');
	} };
}

sub by_relay {
	my ($relay) = @_;
	return { name => $relay->{name}, program => $relay->{program}, ask => sub {
		my $before = length logs($relay);
		my $text = get($relay, $_[0]);
		return ($text, undef) if !$relay->{sees} || ($relay->{trusting} && $relay->{checks});
		my $all = $text . substr logs($relay), $before;
		return ($text, $all =~ $relay->{sees} ? $1 : '');
	}, relay => $relay };
}

# Whose executable a name in a certificate has.
my %hash;
sub hash_of { my ($program) = @_; return $hash{$program} //= (split ' ', run('sha256sum', $program)->{out})[0] }
sub measures { my ($text, $program) = @_; return $text =~ /Measured\(\[@{[ hash_of($program) ]}\]/ ? 1 : 0 }

# What the server said of a connection: the program that it saw ('' none), and whether a session was reused; stunnel does not
# say the latter to what it executes.
sub seen {
	my ($text, $client) = @_;
	my ($dn) = $text =~ /\bdn=(.*)$/m;
	my ($reused) = $text =~ /\breused=(\S+)$/m;
	my ($curve) = $text =~ /^curve=(\S+)/m;
	return {
		served => $text =~ /\bdn=/ ? 1 : 0,
		client => !defined $dn ? undef : measures($dn, $client->{program}) ? 'this' : $dn =~ /Measured/ ? 'another' : '',
		defined $reused ? (reused => $reused =~ /^(?:r|1|Resumed)\r?$/ ? 1 : 0) : (),
		defined $curve ? (curve => $curve) : (),
	};
}

# What it has to read about it: curl writes the first of OpenSSL's errors without what belongs to it, HAProxy nothing at all.
my %reads = (curl => qr/the Tao's policy refuses this connection \('tao log' says why\)/, nginx => qr/refuses this connection \(.*\):no rule lets/,
	apache => qr/refuses this connection \(.*\) \(no rule lets/, stunnel => qr/the Tao's policy refuses this connection/);

# One request; both ends see the other's program.
sub talks {
	my ($client, $to, $what, %want) = @_;
	my ($text, $server) = $client->{ask}->($to);
	my $seen = seen($text, $client);
	my %plain = ('0xfe11' => '0xfe10', '0x11ec' => 'X25519'); # with ML-KEM, where there is that
	$seen->{curve} = $plain{ $seen->{curve} } // $seen->{curve} if exists $seen->{curve};
	my %is = map { exists $want{$_} && exists $seen->{$_} ? ($_ => $want{$_}) : () } keys %want;
	my $good = is_deeply({ map { $_ => $seen->{$_} } keys %is, 'served' }, { %is, served => 1 }, $what);
	$good &= ok(measures($server, $to->{server}{program}), "$what: the client sees the server's program") if defined $server && ref $to->{server}{process};
	$good or diag($text, (map { logs($_) } grep { $_ } $client->{relay}, $to->{server}), map { $host->tao(@$_)->{out} } [ 'log', 20 ], [qw(policy show)], [qw(ps --long)]);
	return $good;
}

sub refused {
	my ($client, $to, $what) = @_;
	my ($text) = $client->{ask}->($to);
	return ok($text !~ /\bdn=|hello from apache/, $what) || diag($text, map { logs($_) } grep { $_ } $client->{relay}, $to->{server});
}

# Within the minute that revocation may take.
sub served_in_time {
	my ($client, $to, $want) = @_;
	return wait_for(sub { $want == seen(($client->{ask}->($to))[0], $client)->{served} }, 60);
}

# --- what was recorded

my $lines = 0;
sub mark { $lines = () = $host->tao('log')->{out} =~ /\n/g }
sub records {
	my @log = split /\n/, $host->tao('log')->{out};
	return grep { /Tao\.Handshake/ } @log[$lines .. $#log];
}

# At both ends, with the peer's program; a program may have answered before its record is written.
sub recorded {
	my ($client, $to, $is) = @_;
	my %peer = (client => $to->{server}{program}, server => $client->{program});
	my (@records, @missing);
	wait_for(sub {
		@records = records();
		@missing = grep { my $role = $_;
			!grep { /role=$role did=completed $is\b.* name=\Q$to->{host}\E / && measures($_, $peer{$role}) } @records } sort keys %peer;
		return !@missing;
	}, 10);
	return ok(!@missing, "$client->{name} to $to->{host}: $is in the log at both ends") || diag("missing: @missing\n", map { "$_\n" } @records);
}

# --- every client with every server

my %running = map { $_ => start_server($_, 'prefer') } @names;
my $plain = $server{nginx} // $server{ $names[0] };
my $else = start($plain, undef, { cert => "$dir/else.pem", key => "$dir/else.key", asks => free_port(), open => free_port(),
	bundle => spew("$dir/else-bundle.pem", slurp("$dir/else.pem") . slurp("$dir/else.key")) });
ready(values %running, $else);

my @running = map { $running{$_} } @names;
my @asks = map { target($_, 'asks') } @running;
my @open = map { target($_, 'open') } @running;
my @cert = map { target($_, 'asks', "$_->{name}.cert.test") } @running;
my ($elsewhere, $mistaken) = map { target($else, 'open', $_) } 'else.test', "$names[0].test"; # policy knows the latter
my $local = target($running{apache} // $running[0], 'asks', 'localhost');
my %through = map { $_ => start_relay($_, 'prefer', [ @asks, { %{ $open[0] }, check => 1 }, @open[1 .. $#open], @cert, $local, $elsewhere, $mistaken ]) } @names;
my %keyed = map { $_ => start_relay($_, 'group', [ @asks, $elsewhere, $mistaken ], trusting => 1) } @names;
ready(values %through, values %keyed);

sub clients { my ($relays, $conf, @more) = @_; return (($has_curl ? by_curl(hosted($conf), @more) : ()), map { by_relay($relays->{$_}) } @names) }

{
	my @clients = clients(\%through, 'prefer');
	# The relays run the same programs as the servers do, and are the newer ones: one that was the server of a channel is
	# found first.
	$clients[0]{ask}->($_) for @asks;
	mark();
	for my $c (@clients) {
		talks($c, $_, "$c->{name} to $_->{host}", client => 'this', reused => 1, curve => '0xfe10') for @asks;
		talks($c, $_, "$c->{name} to $_->{host}, which does not ask", client => 'this', reused => 1, curve => '0xfe10') for @open;
		talks($c, $_, "$c->{name} to $_->{host}", client => 'this', reused => 0, curve => 'X25519') for @cert;
	}
	for my $c (@clients) {
		recorded($c, $_, 'mode=psk .*group=tao_x25519\S*') for @asks;
		recorded($c, $_, 'mode=certificate .*(?i:group=x25519\S*)') for @cert;
	}
	if ($running{stunnel}) {
		like($running{stunnel}{process}->log, qr/Certificate accepted at depth=0:.*Measured/, 'stunnel writes whom it accepted');
		like($running{stunnel}{process}->log, qr/TLS accepted: previous session reused/, 'and that there was a session');
		like($through{stunnel}{process}->log, qr/TLS connected: previous session reused/, 'at both ends');
	}
}

# --- the group, with certificates; relays that verify nothing are held to policy all the same

{
	mark();
	my @clients = clients(\%keyed, 'group', '-k');
	for my $c (@clients) {
		talks($c, $_, "$c->{name}, by the group, to $_->{host}", client => 'this', reused => 0, curve => '0xfe10') for @asks;
		refused($c, $mistaken, "$c->{name}, which verifies nothing, is not connected to another server of a name that policy knows");
	}
	for my $c (@clients) { recorded($c, $_, 'mode=group .*group=tao_x25519\S*') for @asks }
}

stop(values %keyed);

# --- what applications have besides

my $bare = { name => 'curl without the Tao', program => $curl, ask => sub { return (curl([ $curl ], $_[0], '--cacert', "$dir/ca.pem"), undef) } };


# A virtual host that would not accept a program of the domain does not see it by a PSK either.
if ($has_curl) {
	my @else = ('--cacert', "$dir/ca.pem", '--cert', "$dir/else.pem", '--key', "$dir/else.key");
	for my $s (@running) {
		my $other = target($s, 'open', $s->{other});
		refused(by_curl(hosted('prefer')), $other, "a virtual host of $s->{name} that wants certificates of another authority");
		my $c = by_curl([ $curl ], @else);
		talks($c, { %$other, server => {} }, 'which has those as ever', reused => 0);
		refused($bare, $other, 'and nobody else');
	}
	for my $to (@asks) {
		my $c = by_curl(hosted('prefer'), '--tls-max', '1.2');
		refused($c, $to, "a client that may not speak TLS 1.3 is not connected to $to->{host}");
	}
	for my $to (@cert) {
		my $c = by_curl(hosted('prefer'), '--tls-max', '1.2');
		talks($c, $to, "but by certificate to $to->{host}", client => 'this', reused => 0);
	}
}

# Apache asks when it knows which page is wanted.
if ($has_curl && $running{apache}) {
	my $private = { %{ target($running{apache}, 'open') }, page => 'private.html' };
	talks(by_curl(hosted('prefer')), $private, 'a page of Apache that wants a certificate, by a PSK', client => 'this', reused => 1);
	talks(by_curl(hosted('group')), $private, 'by the group', client => 'this', reused => 0);
	talks(by_curl(hosted('certificate')), $private, 'by certificate', client => 'this', reused => 0);
	refused($bare, $private, 'and without the Tao');
	talks(by_relay($through{apache}), $local, 'Apache as a proxy takes the name from its URL', client => 'this', reused => 1);
}
if ($through{haproxy}) {
	ok($through{haproxy}{process}->wait_for_line(qr/Health check .* succeeded, reason: Layer6 check passed/, 20), 'HAProxy sees that the server is there')
	    or diag(logs($through{haproxy}));
}

# --- peers without the Tao

{
	for my $c (clients(\%through, 'prefer', '--cacert', "$dir/ca.pem")) {
		my ($text) = $c->{ask}->($elsewhere);
		is_deeply(seen($text, $c)->{client}, '', "$c->{name} to a server without the Tao, of a name that is not the domain's, shows nothing") or diag($text);
		refused($c, $mistaken, "$c->{name} to a server without the Tao, of a name that policy knows");
	}
	talks($bare, $_, "a client without the Tao to $_->{host}", client => '', reused => 0) for map { { %$_, server => {} } } @open;
	refused($bare, $_, "a client without the Tao to $_->{host}, which asks for a certificate") for @asks;
}

# --- servers that require, or demand

sub in_mode {
	my ($conf, $code) = @_;
	my %strict = map { $_ => start_server($_, $conf) } @names;
	ready(values %strict);
	for my $name (@names) {
		my $to = target($strict{$name}, 'open');
		refused($bare, $to, "$conf: $name refuses a client without the Tao");
		like($host->tao('doctor', $strict{$name}{process}->pid)->{out}, qr/^ok .*mode = (?:$conf\b|prefer.*\n.*$conf = yes)/m,
		    "$conf: tao doctor knows it of $name, also where it wrote its title over its environment");
		$code->($to, $name) if $has_curl;
	}
	stop(values %strict);
}

in_mode(require => sub {
	my ($to, $name) = @_;
	talks(by_curl(hosted('group')), $to, "require: $name, by the group", reused => 0, curve => '0xfe10');
	talks(by_curl(hosted('prefer')), $to, "require: $name, by a PSK", reused => 1, client => 'this', curve => '0xfe10');
	refused(by_curl(hosted('certificate')), $to, "require: $name refuses who has but a certificate");
});
in_mode(demand => sub {
	my ($to, $name) = @_;
	talks(by_curl(hosted('certificate')), $to, "demand: $name sees a certificate that it did not ask for", client => 'this', reused => 0);
	talks(by_curl(hosted('group')), $to, 'demand: by the group', client => 'this', reused => 0);
	talks(by_curl(hosted('prefer')), $to, 'demand: by a PSK', client => 'this', reused => 1);
});
refused(by_curl(hosted('require'), '--cacert', "$dir/ca.pem"), $elsewhere, 'require: curl connects to no server without the Tao') if $has_curl;

# --- a program that no rule names, one that is revoked

{
	my $one = target($running{ $names[0] }, 'asks');
	my $cert = target($running{ $names[0] }, 'asks', "$names[0].cert.test");
	my %copy = map { $_ => start_relay($_, 'prefer', [ $one, $cert ], program => copy_of($relay{$_}{program}, 1)) } @names;
	my %keyed = map { $_ => start_relay($_, 'group', [ $one ], program => $copy{$_}{program}) } @names;
	my $ccurl = $has_curl ? copy_of($curl, 1) : undef;
	ready(values %copy, values %keyed);
	my @clients = (($has_curl ? by_curl(hosted('prefer', $ccurl)) : ()), map { by_relay($copy{$_}) } @names);
	my @by_group = (($has_curl ? by_curl(hosted('group', $ccurl)) : ()), map { by_relay($keyed{$_}) } @names);
	trust($_->{program}) for @clients;
	mark();
	for my $c (@clients) {
		for my $to ($one, $cert) {
			my $before = $c->{relay} ? length logs($c->{relay}) : 0;
			refused($c, $to, "a copy of $c->{name}, which no Connect rule names, to $to->{host}");
			next if !$reads{ $c->{name} };
			my $text = $c->{relay} ? substr logs($c->{relay}), $before : ($c->{ask}->($to))[0];
			like($text, $reads{ $c->{name} }, 'which it writes');
		}
		for my $to ($one, $cert) {
			ok(wait_for(sub { grep { /role=client did=refused .*name=\Q$to->{host}\E .*reason=.*tao connect/ } records() }, 5), 'which the log has')
			    or diag(map { "$_\n" } records());
		}
		mark();
	}
	refused($_, $one, "nor by the group: a copy of $_->{name}") for @by_group;
	quietly($host->cmd('connect', $_->{program}, $server{ $names[0] }{program})) for @clients;
	talks($_, $one, "a copy of $_->{name} with a rule", client => 'this', reused => 1, curve => '0xfe10') for @clients;
	talks($_, $one, "by the group: a copy of $_->{name}", client => 'this', reused => 0, curve => '0xfe10') for @by_group;
	if ($all) {
		for my $c (@clients) { ok(served_in_time($c, $cert, 1), "a copy of $c->{name} by certificate, when the verdict is too old") }
	}
	quietly($host->cmd('revoke', $_->{program})) for @clients;
	refused($_, $one, "the copy of $_->{name} is revoked: at once") for @clients, @by_group;
	if ($all) {
		for my $c (@clients) { ok(served_in_time($c, $cert, 0), "the copy of $c->{name} by certificate, when the verdict is too old") }
	} else {
		note('verdicts on certificates, which programs keep for some seconds: runtests --all');
	}
	quietly($host->cmd('revoke', $_->{program}, '--undo')) for @clients;
	talks($_, $one, "the copy of $_->{name} is not revoked any more", client => 'this', reused => 1) for @clients;
	stop(values %copy, values %keyed);
}

# --- servers refuse, also who does not ask its own host

if ($has_curl) {
	my $copy = copy_of($curl, 2);
	trust($copy);
	quietly($host->cmd('key', 'new', 'copy', '--for', $copy));
	my @with = ('--cacert', "$dir/ca.pem", '--cert', "$state/certs/$>/copy.pem", '--key', "$state/keys/$>/copy.pem");
	my $c = by_curl(hosted('off', $copy), @with);
	refused($c, $_, "$_->{host} refuses a program that no Connect rule names") for @asks;
	quietly($host->cmd('connect', $copy, $server{$_}{program})) for @names;
	if ($all) {
		for my $to (@asks) { ok(served_in_time($c, $to, 1), "$to->{host} accepts it when there is a rule") }
		quietly($host->cmd('revoke', $copy));
		for my $to (@asks) { ok(served_in_time($c, $to, 0), "$to->{host} refuses it when it is revoked, within a minute") }
	}
}

# --- servers that are revoked

if ($has_curl) {
	my $c = by_curl(hosted('prefer'));
	for my $to (@asks) {
		talks($c, $to, "$to->{host}, before", client => 'this', reused => 1);
		quietly($host->cmd('revoke', $to->{server}{program}));
		refused(by_curl(hosted($_)), $to, "$to->{host} is revoked: at once, $_") for qw(prefer group certificate);
		quietly($host->cmd('revoke', $to->{server}{program}, '--undo'));
		talks($c, $to, "$to->{host}, after", client => 'this', reused => 1);
	}
}

stop(values %running, values %through, $else);

# --- pre-shared keys with TLS 1.2, where both ends are told to use them: neither shows a certificate, and some do not notice

# The servers first, and relays, which could serve the same names, when those have answered: with TLS 1.2 there is no second
# key to try.
if ($has_curl) {
	$host->tao('down'); # a new host: after 1000 records of a user, others are summed up
	quietly($host->cmd('up', '--passphrase-file', $host->passfile));
	my %unnoticed = (curl => 0, nginx => 0, apache => 0, haproxy => 1, stunnel => 1);
	my %twelve = map { $_ => start_server($_, 'twelve', twelve => 1) } @names;
	ready(values %twelve);
	my @to = map { target($twelve{$_}, 'open') } @names;
	my @strict = map { target($twelve{$_}, 'asks') } @names;
	by_curl(hosted('twelve'), '-k')->{ask}->($_) for @to;
	my %lenient = map { $_ => start_relay($_, 'twelve', [ @to, @strict ], trusting => 1) } @names;
	my %verifying = map { $_ => start_relay($_, 'twelve', [ $to[0] ]) } @names;
	my %copy = map { $_ => start_relay($_, 'twelve', [ $to[0] ], trusting => 1, program => copy_of($relay{$_}{program}, 3)) } @names;
	my $ccurl = copy_of($curl, 3);
	ready(values %lenient, values %verifying, values %copy);
	mark();
	for my $c (clients(\%lenient, 'twelve', '-k')) {
		talks($c, { %$_, server => {} }, "TLS 1.2: $c->{name} to $_->{host}", client => '', reused => 0) for @to;
		recorded($c, $_, 'mode=psk tls=771 .*PSK') for @to;
		for my $to (@strict) {
			my $name = $to->{server}{name};
			is(seen(($c->{ask}->($to))[0], $c)->{served}, $unnoticed{$name},
			    "$name, which demands a certificate, " . ($unnoticed{$name} ? 'does not notice' : 'refuses') . " $c->{name}");
		}
	}
	for my $c (clients(\%verifying, 'twelve')) {
		is(seen(($c->{ask}->($to[0]))[0], $c)->{served}, $unnoticed{ $c->{name} },
		    "$c->{name}, which verifies, " . ($unnoticed{ $c->{name} } ? 'does not notice' : 'refuses'));
	}
	talks($bare, { %$_, server => {} }, "TLS 1.2: a client without the Tao to $_->{host}", client => '', reused => 0) for @to;
	my @copies = (by_curl(hosted('twelve', $ccurl), '-k'), map { by_relay($copy{$_}) } @names);
	trust($_->{program}) for @copies;
	refused($_, $to[0], "TLS 1.2: a copy of $_->{name}, which no Connect rule names") for @copies;
	quietly($host->cmd('connect', $_->{program}, $server{ $names[0] }{program})) for @copies;
	mark();
	talks($_, { %{ $to[0] }, server => {} }, "a copy of $_->{name} with a rule") for @copies;
	recorded($_, $to[0], 'mode=psk tls=771 .*PSK') for @copies;
	quietly($host->cmd('revoke', $_->{program})) for @copies;
	refused($_, $to[0], "the copy of $_->{name} is revoked") for @copies;
	stop(values %twelve, values %lenient, values %verifying, values %copy);
}

done_testing();
