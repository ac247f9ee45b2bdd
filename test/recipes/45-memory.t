# Memory of programs that use the Tao for long: a server has no more of it after thousands of handshakes, by
# certificates and as a Tao channel; and valgrind finds no block that was lost, and no access
# that is wrong, in what loads, uses and drops a key in every way.
use strict;
use warnings;

use Test::More;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $all = $ENV{TAO_TEST_ALL};
my $handshakes = $all ? 10_000 : 2_000;
my $host = start_host();
my $dir = tmpdir();
my ($certs, $keys) = map { $host->dir . "/$_/$>" } qw(certs keys);

sub rss { my ($process) = @_; return slurp("/proc/$process->{pid}/status") =~ /^VmRSS:\s*(\d+) kB$/m ? $1 : 0 }

# Calls more(), which returns how many handshakes there were, until there were enough; after a quarter of
# them the process has all that it will ever need, give or take what would be 64 bytes for each of the others.
sub stays {
	my ($name, $process, $enough, $more) = @_;
	my ($done, $early) = (0);
	while ($done < $enough) {
		$early //= rss($process) if $done >= $enough / 4;
		my $n = $more->() or last;
		$done += $n;
	}
	cmp_ok($done, '>=', $enough, "$name: $enough handshakes") or diag($process->log);
	my $grown = rss($process) - ($early // 0);
	cmp_ok($grown, '<', 64 + $enough * 64 / 1024, "$name: its memory stays as it is") or diag("$grown kB more");
}

SKIP: {
	skip 'the sanitizers keep what was freed', 1 if config('TAO_ASAN') || config('TAO_TSAN');
	ok_run([ $host->cmd('trust', $openssl, qw(--serves localhost)) ], 'tao trust');
	diag('10000 handshakes, both custodies: runtests --all') if !$all;
	for my $custody ($all ? qw(host program) : 'host') {
		ok_run([ $host->cmd('key', 'new', $custody, '--custody', $custody, '--for', $openssl) ], "custody $custody: a key");
		for my $version (qw(-tls1_3 -tls1_2)) {
			my $port = free_port();
			my $server = spawn($host->cmd(qw(run --quiet --)), $openssl, 's_server', $version, qw(-www -quiet -naccept 1000000 -accept),
				"127.0.0.1:$port", '-cert', "tao:$custody", '-key', "tao:$custody");
			wait_for(sub { run($openssl, 's_client', '-connect', "127.0.0.1:$port", { stdin => '' })->{out} =~ /^SSL handshake has read/m }, 20);
			stays("$custody, $version", $server, $handshakes, sub {
				my $out = run($openssl, qw(s_time -new -time 1 -connect), "127.0.0.1:$port", { env => { OPENSSL_CONF => '/dev/null' } })->{out};
				return $out =~ /^(\d+) connections in \d+ real seconds/m ? $1 : 0;
			});
			$server->stop('KILL');
		}
	}

	my $peer = tool('tlspeer');
	ok_run([ $host->cmd(qw(key new peer --for), $peer) ], 'a key for a Tao channel');
	ok_run([ $host->cmd('trust', $peer, qw(--serves localhost)) ], 'its program is trusted');
	ok_run([ $host->cmd('connect', $peer, $peer) ], 'and may talk to itself');
	ok_run([ $host->cmd(qw(run --quiet --prepare --), $peer, 'server', "$certs/peer.pem", "$keys/peer.pem") ], 'it has a certificate');
	for my $psk (qw(yes no)) {
		my @run = ($host->cmd(qw(run --quiet)), $psk eq 'no' ? ('--openssl-conf', $host->conf('nopsk', 'psk = no')) : (), '--');
		my $server = spawn(@run, $peer, 'server', "$certs/peer.pem", "$keys/peer.pem");
		$server->wait_for_line(qr/^port \d+$/m, 20);
		my ($port) = $server->log =~ /^port (\d+)$/m;
		stays("a Tao channel, psk $psk", $server, $handshakes / 2, sub {
			return scalar(() = run(@run, $peer, qw(client -n localhost -j 60), $port)->{out} =~ /^ok version=TLSv1.3 group=tao_x25519/mg);
		});
		$server->stop;
	}
}

# --- valgrind

SKIP: {
	my ($tool) = glob '/usr/libexec/valgrind/memcheck-*-linux';
	my $valgrind = '/usr/bin/valgrind.bin'; # Debian's valgrind is a script that sets LD_LIBRARY_PATH: such a program is not named
	skip 'valgrind is not installed, or not where Debian has it: runtests --all installs it', 1 if !defined $tool || !-x $valgrind;
	skip 'valgrind does not run what is built with sanitizers', 1 if config('TAO_ASAN') || config('TAO_TSAN');
	my @valgrind = ($valgrind, qw(-q --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=9 --num-callers=20));
	skip 'valgrind does not run here', 1 if run(@valgrind, '/bin/true')->{status} != 0;
	my $life = tool('life');
	my $conf = $host->dir . '/openssl.cnf';
	# Another executable of an instance, which is named for itself: it is its keys that the program gets.
	# Who frees a key after OPENSSL_cleanup() keeps the provider until the end: not done here.
	my @steps = ([qw(load sign threads:4 fork sign end free load sign free cleanup)],
		[ "conf:$conf", qw(load sign fork sign end threads:4 free drop cleanup) ], [qw(load fork free load sign end:cleanup sign free cleanup)]);
	for my $custody ($all ? qw(host program) : 'host') {
		ok_run([ $host->cmd('key', 'new', "vg-$custody", '--custody', $custody, '--for', $tool) ], "custody $custody: a key");
		for my $steps (@steps) {
			my $r = ok_run([ $host->cmd(qw(run --quiet --)), @valgrind, $life, "tao:vg-$custody", @$steps ], "$custody: @$steps", { timeout => 120 });
			like($r->{out}, qr/^done 0$/m, 'all succeed');
			unlike($r->{err}, qr/^==\d+== /m, 'valgrind has nothing to say');
		}
	}
	spew("$dir/msg", 'a message');
	spew("$dir/bad.pem", slurp("$keys/vg-host.pem") =~ s/^(MII.{20})...../$1AAAAA/mr);
	my @openssl = ([qw(storeutl -noout tao:)], [qw(storeutl -noout -keys tao:vg-host)], [qw(pkey -noout -text -in tao:vg-host)],
		[ qw(cms -sign -md sha256 -nocerts -signer), "$dir/self.pem", qw(-inkey tao:vg-host -out), "$dir/cms", '-in', "$dir/msg" ],
		[ qw(kdf -keylen 32 -kdfopt label:x TAO-SECRET) ]);
	ok_run([ $host->cmd(qw(run --quiet --)), @valgrind, $openssl, qw(req -x509 -new -subj /CN=x -key tao:vg-host -out), "$dir/self.pem" ], 'openssl req');
	for my $cmd ($all ? @openssl : @openssl[ 0, 3 ]) {
		ok_run([ $host->cmd(qw(run --quiet --)), @valgrind, $openssl, @$cmd ], "openssl @$cmd", { timeout => 120 });
	}
	my @bad = ([ qw(pkey -noout -in), "$dir/bad.pem" ], [qw(pkey -noout -in tao:nobody)], [qw(pkey -noout -in tao:a/b)]);
	for my $cmd ($all ? @bad : $bad[0]) {
		my $r = run($host->cmd(qw(run --quiet --)), @valgrind, $openssl, @$cmd, { timeout => 120 });
		is($r->{status}, 1, "openssl @$cmd: fails, and nothing else") or diag($r->{err});
	}
}

done_testing();
