# Debian's HAProxy in master-worker mode: a frontend and a client certificate with sealed keys, and the
# same with keys in files. At a reload the master executes itself anew, and its
# workers are in a chroot: they sign all the same, as the same program.
use strict;
use warnings;
use Test::More;
use TaoDaemon;
use TaoTest;

need_programs(qw(haproxy curl openssl));
need_same_openssl('/usr/sbin/haproxy');
my $haproxy = '/usr/sbin/haproxy';
my $dir = tmpdir();
my $host = start_host();
my $root = $< == 0 ? "user haproxy\n    group haproxy\n    chroot $dir/empty" : '';
mkdir "$dir/empty";

ok_run([ $host->cmd(qw(key new), $_, '--for', $haproxy) ], "key $_") for qw(front back);
ok_run([ $host->cmd('trust', $haproxy, qw(--serves localhost)) ], 'trust');
ok_run([ $host->cmd(qw(run --prepare), $haproxy) ], 'the certificates, before the first start');

# Frontends: plain contents; what another frontend, which wants a client certificate, answers.
sub configure {
	my ($name, $front, $back, $ca, @port) = @_;
	my %bundle = (front => $front, back => $back);
	for my $side (keys %bundle) {
		spew("$dir/$name-$side.pem", slurp($bundle{$side}[0]) . slurp($bundle{$side}[1]));
		chmod 0600, "$dir/$name-$side.pem";
	}
	return spew("$dir/$name.cfg", <<CFG);
global
    stats socket $dir/$name.sock mode 600 level admin expose-fd listeners
    hard-stop-after 30s
    $root
defaults
    mode http
    timeout connect 10s
    timeout client 30s
    timeout server 30s
frontend https
    bind 127.0.0.1:$port[0] ssl crt $dir/$name-front.pem ssl-min-ver TLSv1.2
    use_backend mutual if { path_beg /mutual }
    http-request return status 200 content-type text/plain lf-string "worker %pid saw %[path]\\n" if !{ path_beg /mutual }
backend mutual
    server self 127.0.0.1:$port[1] ssl crt $dir/$name-back.pem ca-file $ca verify required verifyhost localhost sni str(localhost)
frontend wants-certificates
    bind 127.0.0.1:$port[1] ssl crt $dir/$name-front.pem ca-file $ca verify required
    http-request return status 200 content-type text/plain lf-string "verify %[ssl_c_verify] from %[ssl_c_s_dn]\\n"
CFG
}

sub get {
	my ($port, $version, $ca, $path) = @_;
	return shown($port, $version, $ca, { say => "GET $path HTTP/1.0\r\n\r\n", until => qr/^(?:worker|verify|closed|\d+ ).*$/ });
}

sub serves {
	my ($what, $port, $ca, $program) = @_;
	my %workers;
	for my $version (qw(1_2 1_3)) {
		my $got = get($port, $version, $ca, '/told');
		ok($got->{verified} && $got->{signed} eq 'ECDSA', "$what: TLS $version, chain and signature") or diag($got->{text});
		is($got->{program}, $program, "$what: whose it is");
		my ($worker) = $got->{text} =~ m{^worker (\d+) saw /told$}m;
		ok($worker, "$what: data both ways") and $workers{$worker} = 1;
		$got = get($port, $version, $ca, '/mutual');
		my ($dn) = $got->{text} =~ /^verify 0 from (.+)$/m;
		ok(defined $dn, "$what: with a client certificate to a backend") or diag($got->{text});
		is(measured($dn // ''), $program, "$what: of the same program");
	}
	return join ' ', sort keys %workers;
}

sub whole {
	my ($what, $front, $back, $ca, @start) = @_;
	my @port = (free_port(), free_port());
	my $cfg = configure($what, $front, $back, $ca, @port);
	my $haproxy = spawn(@start, $haproxy, '-W', '-f', $cfg, '-p', "$dir/$what.pid");
	ok($haproxy->wait_for_line(qr/Loading success/, 30), "$what: starts") or diag($haproxy->log);
	my $program = @start ? program_of($host, $haproxy->pid) : undef;
	ok(defined $program, "$what: the host knows it") if @start;
	my $before = serves($what, $port[0], $ca, $program);
	my $load = load($port[0], $ca);
	for my $round (1, 2) {
		$load->wait_more(6);
		kill 'USR2', $haproxy->pid;
		ok(wait_for(sub { my $n = () = $haproxy->log =~ /Loading success/g; return $n > $round }, 30),
			"$what: reloaded under load") or diag($haproxy->log);
		$load->wait_more(6);
		my $after = serves("$what, reload $round", $port[0], $ca, $program);
		isnt($after, $before, "$what: by another worker");
		$before = $after;
	}
	if ($root) {
		my ($worker) = $before =~ /(\d+)/;
		is(readlink("/proc/$worker/root"), "$dir/empty", "$what: which is in a chroot");
	}
	is(join("\n", $load->finish), '', "$what: no request failed");
	cmp_ok($load->done, '>', 20, "$what: of many");
	is(program_of($host, 'haproxy') // program_of($host, $haproxy->pid) // $program, $program, "$what: it is the program it was")
	    if @start;
	unlike($haproxy->log, qr/ALERT|Sanitizer/, "$what: nothing in its log") or diag($haproxy->log);
	$haproxy->stop('TERM');
}

my $state = $host->dir;
my @sealed = map { [ "$state/certs/$</$_.pem", "$state/keys/$</$_.pem" ] } qw(front back);
controls(sub { my $file = file_key('file'); whole('file', $file, $file, $file->[2]) });
whole('sealed', @sealed, "$state/policy.pem", $host->cmd(qw(run --name haproxy)));

# --- a changed HAProxy gets nothing, and says so

run('cp', $haproxy, "$dir/changed");
spew("$dir/changed", slurp($haproxy) . 'x');
chmod 0755, "$dir/changed";
my @port = (free_port(), free_port());
my $changed = spawn($host->cmd('run', "$dir/changed"), '-W', '-f', configure('changed', @sealed, "$state/policy.pem", @port));
ok($changed->wait_for_line(qr/Loading success/, 30), 'a changed HAProxy starts') or diag($changed->log);
my $got = get($port[0], '1_3', "$state/policy.pem", '/');
ok($got->{text} !~ /^worker/m && $got->{text} =~ /alert/, 'and cannot sign') or diag($got->{text});
$changed->stop;

done_testing();
