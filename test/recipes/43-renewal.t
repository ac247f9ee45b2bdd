# tao_tls.so: a running server or client shows the renewed certificate, and a
# rotated key, at its next handshake, without reload. openssl here; nginx under load behind it.
use strict;
use warnings;
use Test::More;
use TaoNginx;
use TaoTest;

need_programs(qw(openssl nginx));
my $openssl = '/usr/bin/openssl';
my $dir = tmpdir();
my $host = start_host();
my $policy = $host->dir . '/policy.pem';

# The host's openssl.cnf, looking every second.
my $conf = $host->dir . '/openssl.cnf';
like(slurp($conf), qr/^tao_tls = tao_tls_sect$/m, 'the host names the module in openssl.cnf');
my $quick = $host->conf('quick', 'renew = 1');
my $never = $host->conf('never', 'renew = 0');

ok_run([$host->cmd(qw(key new web --for), $openssl)], 'a key');
ok_run([$host->cmd('trust', $openssl, '--serves', 'one.test')], 'which serves one.test');

# Serial number and names of what a server shows.
sub shown {
	my ($port, @more) = @_;
	my $r = run($openssl, 's_client', '-connect', "127.0.0.1:$port", '-CAfile', $policy,
		'-verify_return_error', '-verify_quiet', @more, { stdin => '', timeout => 20 });
	my ($pem) = $r->{out} =~ /(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n)/s;
	return {} if !$pem;
	my $text = run($openssl, qw(x509 -noout -serial -pubkey -ext subjectAltName), { stdin => $pem })->{out};
	my ($serial) = $text =~ /serial=(\w+)/;
	my ($key) = $text =~ /(-----BEGIN PUBLIC KEY-----.*?-----END)/s;
	return { serial => $serial, key => $key, names => join(' ', sort $text =~ /DNS:([\w.]+)/g) };
}

sub shows {
	my ($port, $what, $name, @more) = @_;
	my $last;
	my $good = wait_for(sub { $last = shown($port, @more); $what->($last) }, 20);
	ok($good, $name) or diag(explain($last));
	return $last;
}

for my $version (qw(1_3 1_2)) {
	my $port = free_port();
	my @args = ('s_server', "-tls$version", '-accept', "127.0.0.1:$port", qw(-cert tao:web -key tao:web -rev -quiet));
	my $server = spawn($host->cmd('run', '--openssl-conf', $quick, '--', $openssl, @args));
	wait_for(sub { shown($port)->{serial} }, 20) or diag($server->log);
	my $other = free_port();
	my $still = spawn($host->cmd('run', '--openssl-conf', $never, '--', $openssl, map { $_ eq "127.0.0.1:$port" ? "127.0.0.1:$other" : $_ } @args));
	wait_for(sub { shown($other)->{serial} }, 20) or diag($still->log);
	my $first = shown($port);
	is($first->{names}, 'one.test', "TLS $version: the certificate at the start");
	is(shown($port)->{serial}, $first->{serial}, 'stays while nothing changes');
	ok_run([$host->cmd('trust', $openssl, '--serves', 'two.test')], 'another name');
	my $second = shows($port, sub { $_[0]{names} && $_[0]{names} eq 'one.test two.test' },
		'the running server shows a certificate with both');
	is($second->{key}, $first->{key}, 'for the same key');
	isnt($second->{serial}, $first->{serial}, 'it is a new one');
	ok($server->alive, 'it is the same server');
	is(shown($other)->{names}, 'one.test', 'one with renew = 0 shows what it began with');
	$still->stop;
	ok_run([$host->cmd('trust', $openssl, '--remove', '--serves', 'two.test')], 'the name is taken back');
	shows($port, sub { ($_[0]{names} // '') eq 'one.test' }, 'and gone from the certificate');

	$server->stop;
}

# --- nginx: three renewals and one rotation of its key, under load, without one reload

my ($nginx) = grep { -x } qw(/usr/sbin/nginx /usr/bin/nginx);
if (my $why = other_openssl($nginx)) {
	diag($why);
	done_testing();
	exit;
}
my $port = free_port();
ok_run([$host->cmd(qw(key new site --for), $nginx)], 'a key for nginx');
ok_run([$host->cmd('trust', $nginx, '--serves', 'one.test')], 'which serves one.test');
my $stub = $host->dir . "/keys/$>/site.pem";
my $cert = $host->dir . "/certs/$>/site.pem";
my $nginx_conf = nginx_conf("$dir/nginx", $port, $cert, $stub, { main => 'daemon off;', log => 'stderr' });
my $server = spawn($host->cmd('run', '--openssl-conf', $quick, '--', $nginx, '-c', $nginx_conf));
wait_for(sub { shown($port)->{serial} }, 30) or diag($server->log);
# Its title stands where its environment did.
my $examined = $host->tao('doctor', $server->pid)->{out};
like($examined, qr{^ok .*loaded /.*/tao\.so$}m, 'tao doctor PID: the module is loaded') or diag($examined);

# Two clients, each handshake a new process, which verifies.
my $client = "while test ! -e $dir/stop; do $openssl s_client -connect 127.0.0.1:$port -CAfile $policy -verify_return_error"
    . " </dev/null >$dir/last.\$\$ 2>&1 && echo good || { echo failed; cat $dir/last.\$\$; }; done";
my @load = map { spawn('/bin/sh', '-c', $client) } 1, 2;
my $before = shown($port);
my %serials = ($before->{serial} => 1);
for my $name (qw(two.test three.test four.test)) {
	ok_run([$host->cmd('trust', $nginx, '--serves', $name)], "nginx serves $name, too");
	my $now = shows($port, sub { ($_[0]{names} // '') =~ /\b\Q$name\E/ }, 'its certificate is renewed');
	is($now->{key}, $before->{key}, 'the key is the same');
	$serials{ $now->{serial} // '' } = 1;
}
is(scalar keys %serials, 4, 'each certificate is another one');
ok_run([$host->cmd(qw(key rotate site))], 'the key is rotated');
my $after = shows($port, sub { $_[0]{key} && $_[0]{key} ne $before->{key} }, 'nginx shows the new key');
is($after->{names}, 'four.test one.test three.test two.test', 'with a certificate for the same names');
shows($port, sub { $_[0]{key} && $_[0]{key} eq $after->{key} }, 'again') for 1 .. 3;
ok(wait_for(sub { $load[0]->log =~ /(?:good\n){5}\z/ }, 30), 'clients go on');
spew("$dir/stop", '');
$_->wait(30) for @load;
my $said = join '', map { $_->log } @load;
cmp_ok(scalar(() = $said =~ /^good$/mg), '>=', 20, 'there was load');
unlike($said, qr/failed/, 'and no handshake failed') or diag(substr $said =~ s/^good\n//mgr, 0, 4000);
is(scalar(() = $server->log =~ /reconfiguring/g), 0, 'nginx was never reloaded');
$server->stop('QUIT');

done_testing();
