# tao_tls.so: a running server or client shows the renewed certificate, and a
# rotated key, at its next handshake, without reload. openssl here; nginx under load behind it.
use strict;
use warnings;
use Test::More;
use TaoTest;

need_programs(qw(openssl nginx));
my $openssl = '/usr/bin/openssl';
my $dir = tmpdir();
my $host = start_host();
my $policy = $host->dir . '/policy.pem';

# The host's openssl.cnf, looking every second.
my $conf = $host->dir . '/openssl.cnf';
like(slurp($conf), qr/^tao_tls = tao_tls_sect$/m, 'the host names the module in openssl.cnf');
my $quick = "$dir/quick.cnf";
spew($quick, slurp($conf) =~ s/^(path = .*tao_tls\.so)$/$1\nrenew = 1/mr);

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
	my $first = shown($port);
	is($first->{names}, 'one.test', "TLS $version: the certificate at the start");
	is(shown($port)->{serial}, $first->{serial}, 'stays while nothing changes');
	ok_run([$host->cmd('trust', $openssl, '--serves', 'two.test')], 'another name');
	my $second = shows($port, sub { $_[0]{names} && $_[0]{names} eq 'one.test two.test' },
		'the running server shows a certificate with both');
	is($second->{key}, $first->{key}, 'for the same key');
	isnt($second->{serial}, $first->{serial}, 'it is a new one');
	ok($server->alive, 'it is the same server');
	ok_run([$host->cmd('trust', $openssl, '--remove', '--serves', 'two.test')], 'the name is taken back');
	shows($port, sub { ($_[0]{names} // '') eq 'one.test' }, 'and gone from the certificate');

	# The host goes: the last good one stays, and the sealed key is asked for in vain.
	$server->stop;
}

done_testing();
