# A sealed key with the certificate of a public CA: `tao cert request`, the CA signs with `openssl ca`,
# `tao cert import` takes the chain. nginx then serves a curl that trusts that CA's root alone and
# knows nothing of the Tao; the CA's renewal reaches it without restart; after a rotation all that is left says so.
use strict;
use warnings;
use POSIX qw(strftime);
use Test::More;
use TaoCa;
use TaoNginx;
use TaoTest;

need_programs(qw(openssl nginx curl));
need_same_openssl('/usr/sbin/nginx');
my $openssl = '/usr/bin/openssl';
my ($nginx) = grep { -x } qw(/usr/sbin/nginx /usr/bin/nginx);
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;
my $file = "$state/certs/$>/web.pem";
sub tao { return [ $host->cmd(@_) ] }
sub tao_openssl { return $host->cmd('run', '--quiet', '--', $openssl, @_) }

my $root = ca_new("$dir/root", 'Root')->self_signed;
my $middle = ca_new("$dir/middle", 'Intermediate')->under($root);
my $other = ca_new("$dir/other", 'Other')->self_signed;
sub serial { my ($pem) = @_; return run($openssl, qw(x509 -noout -serial -in), $pem)->{out} =~ /serial=(\w+)/ ? $1 : "none in $pem" }
sub joined { return spew("$dir/joined", join '', map { slurp($_) } @_) }

# --- the request

ok_run(tao(qw(key new web --for), $nginx), 'a key for nginx');
my $csr = "$dir/web.csr";
ok_run(tao(qw(cert request web --dns www.example.test --dns example.test --out), $csr), 'tao cert request');
my $text = ok_run([ $openssl, qw(req -noout -verify -text -in), $csr ], 'the request is signed by its key')->{out};
like($text, qr/Subject: CN ?= ?www\.example\.test\n/, 'its subject is the first name');
like($text, qr/DNS:www\.example\.test, DNS:example\.test\n/, 'and its names are there');
is(run($openssl, qw(req -noout -pubkey -in), $csr)->{out}, run(@{ tao(qw(key show web --pubkey)) })->{out}, 'the key is the sealed one');
like(ok_run([ $openssl, qw(req -noout -subject -in), spew("$dir/x", ok_run(tao(qw(cert request web --subject), '/C=DE/O=A\\/B/CN=x'),
	'with a subject, to standard output')->{out}) ], 'reads')->{out}, qr{C ?= ?DE, O ?= ?A/B, CN ?= ?x}, 'which is as it was given');
fails_with(tao(qw(cert request web)), qr/--dns/, 'a request for nothing');
fails_with(tao(qw(cert request web --dns), 'a b'), qr/not a DNS name/, 'a name that is none');
fails_with(tao(qw(cert request web --subject), 'CN=x'), qr{/C=DE/O=Example}, 'a subject in another form');
fails_with(tao(qw(cert request web --subject), '/XX=x'), qr/no subject has XX/, 'an attribute that is none');
fails_with(tao(qw(cert request nobody --dns a.test)), qr/there is no key nobody/, 'a key that is none');
for my $kind (qw(rsa2048 p384 ed25519 rsa-pss-2048)) {
	ok_run(tao('key', 'new', "r$kind", '--type', $kind, qw(--purpose tls13 --for), $openssl), "a $kind key");
	ok_run([ $openssl, qw(req -noout -verify -in), spew("$dir/x", run(@{ tao('cert', 'request', "r$kind", '--dns', 'a.test') })->{out}) ],
		"its request verifies");
}
ok_run(tao(qw(key new rx --type x25519 --purpose decrypt --for), $openssl), 'an x25519 key');
fails_with(tao(qw(cert request rx --dns a.test)), qr/signs nothing/, 'which signs no request');

# --- what is refused

$middle->sign($csr, "$dir/leaf1.pem");
fails_with(tao(qw(cert import web)), qr/files/, 'no file');
fails_with(tao(qw(cert import web), "$dir/nothing"), qr/nothing/, 'a file that is not there');
fails_with(tao(qw(cert import web), $csr), qr/no certificate in PEM/, 'a file without a certificate');
fails_with(tao(qw(cert import web), $middle->{cert}), qr/not for key web/, 'a certificate of another key');
fails_with(tao(qw(cert import web), "$dir/leaf1.pem", $other->{cert}, "$dir/other/new/nothing"), qr/nothing/, 'one file of several is not there');
ok_run([ $openssl, qw(x509 -outform DER -in), "$dir/leaf1.pem", '-out', "$dir/leaf1.der" ], 'the same in DER');
fails_with(tao(qw(cert import web), "$dir/leaf1.der"), qr/in DER.*openssl x509 -inform DER/, 'DER');
ok_run([ $openssl, qw(crl2pkcs7 -nocrl -certfile), "$dir/leaf1.pem", '-out', "$dir/leaf1.p7" ], 'and as PKCS#7');
fails_with(tao(qw(cert import web), "$dir/leaf1.p7"), qr/PKCS#7.*print_certs/, 'PKCS#7');
my $under_other = ca_new("$dir/uo", 'Elsewhere')->under($other);
fails_with(tao(qw(cert import web), "$dir/leaf1.pem", $under_other->{cert}), qr/CN=Elsewhere,O=Public is not of this key's chain/, 'a certificate of another chain');
fails_with(tao(qw(cert import web), "$dir/leaf1.pem", $root->{cert}), qr/CN=Root,O=Public is not of this key's chain/, 'a gap in the chain');
my $twin = ca_new("$dir/twin", 'Intermediate')->under($root); # the same name, another key
ok_run([ $openssl, qw(x509 -req -days 5 -in), $csr, '-CA', $twin->{cert}, '-CAkey', $twin->{key}, '-set_serial', 7, '-out', "$dir/twinleaf.pem" ], 'signed by a CA of that name');
# From OpenSSL 3.2 on, `openssl x509` writes whose key it was.
fails_with(tao(qw(cert import web), "$dir/twinleaf.pem", $middle->{cert}), qr/was not signed by|is not of this key's chain/,
	'and given with the other');
my $no_ca = ca_new("$dir/no-ca", 'Server');
ok_run([ $openssl, qw(x509 -req -days 5 -in), $no_ca->request, '-CA', $root->{cert}, '-CAkey', $root->{key}, '-set_serial', 8,
	'-extfile', spew("$dir/no-ca.ext", "basicConstraints=CA:FALSE\n"), '-out', $no_ca->{cert} ], 'a certificate that is no CA\'s');
ok_run([ $openssl, qw(x509 -req -days 5 -in), $csr, '-CA', $no_ca->{cert}, '-CAkey', $no_ca->{key}, '-set_serial', 9, '-out', "$dir/no-ca-leaf.pem" ],
	'signs another all the same');
fails_with(tao(qw(cert import web), "$dir/no-ca-leaf.pem", $no_ca->{cert}), qr/was not signed by|is not of this key's chain/, 'which is refused');
$middle->sign($csr, "$dir/late.pem", qw(-startdate 20200101000000Z -enddate 20200201000000Z));
fails_with(tao(qw(cert import web), "$dir/late.pem", $middle->{cert}), qr/has expired: ask the CA/, 'an expired one');
$middle->sign($csr, "$dir/early.pem", qw(-startdate 20900101000000Z -enddate 20900201000000Z));
fails_with(tao(qw(cert import web), "$dir/early.pem", $middle->{cert}), qr/not valid yet/, 'one that is not valid yet');
spew("$dir/cut.pem", substr slurp("$dir/leaf1.pem"), 0, -200);
fails_with(tao(qw(cert import web), "$dir/cut.pem"), qr/damaged|no certificate/, 'one that is cut off');
fails_with(tao(qw(cert import web), spew("$dir/many", slurp($other->{cert}) x 40)), qr/more than 32/, 'too many');
fails_with(tao(qw(cert remove web)), qr/no certificate was imported/, 'nothing to take away yet');
ok(!-e $file, 'and nothing is on file');

# --- the first import, in a CA's worst order, with its root

like(ok_run(tao(qw(cert import web), joined($root->{cert}, "$dir/leaf1.pem"), $middle->{cert}, "$dir/leaf1.pem"), 'tao cert import')->{out},
	qr/^origin\s+imported$/m, 'says that it is imported');
like(slurp($file), qr/\Atao imported certificate 1\n-----BEGIN CERT/, 'its file has a format');
is(serial($file), serial("$dir/leaf1.pem"), 'whose first certificate is the key\'s');
is(scalar(() = slurp($file) =~ /BEGIN CERT/g), 2, 'with the intermediate, without the root');
my $shown = ok_run(tao(qw(key show web)), 'tao key show')->{out};
like($shown, qr/imported, until \S+, issued by CN=Intermediate,O=Public; yours to renew/, 'says which certificate, until when, who renews it');
my $json = ok_run(tao(qw(--json key show web)), 'as JSON')->{out};
like($json, qr/"cert_imported":\s*true.*"cert_fits":\s*true.*"cert_issuer":\s*"CN=Intermediate,O=Public"/s, 'too');
like(ok_run(tao(qw(--json cert show web)), 'tao cert show')->{out}, qr/"imported":\s*true/, 'in JSON');
is(scalar(() = ok_run(tao(qw(cert show web --pem)), 'as PEM')->{out} =~ /BEGIN CERT/g), 2, 'the chain');
like(run(@{ tao(qw(log 50)) })->{out}, qr/Host\.ImportCert.*web.*Intermediate/, 'it is in the audit log');

# --- its end, of which nobody else would tell

sub told { my ($what) = @_; return run(@{ tao($what) })->{out} . run(@{ tao('--json', $what) })->{out} }
sub ends { # which the CA gives for so many seconds of a life of so many
	my ($past, $to_come) = @_;
	my @at = map { strftime('%Y%m%d%H%M%SZ', gmtime(time + $_)) } -$past, $to_come;
	$middle->sign($csr, "$dir/short.pem", '-startdate', $at[0], '-enddate', $at[1]);
	return ok_run(tao(qw(cert import web), "$dir/short.pem", $middle->{cert}), "one that has $to_come of " . ($past + $to_come) . ' seconds left');
}
unlike(told($_), qr/imported for key web/, "$_: nothing is wrong") for qw(status doctor);
for my $days (31, 29) {
	my $soon = $days < 30;
	my $shown = ends((398 - $days) * 86400, $days * 86400 + 3600)->{out};
	my $sentence = qr/warning\s+the certificate that was imported for key web ends in $days days, on \S+, and the host cannot renew it: .*'tao cert import web'/;
	for my $what (qw(status doctor)) {
		my $said = run(@{ tao($what) });
		$soon ? like($said->{out}, qr/^$sentence$/m, "tao $what: $days days") : unlike($said->{out}, qr/web/, "tao $what: $days days");
		is($said->{status}, 0, 'nothing has failed yet') or diag($said->{out}, $said->{err});
	}
	is($shown =~ /^warning\s+it ends in $days days/m ? 1 : 0, $soon ? 1 : 0, 'tao cert import shows it');
	like(run(@{ tao(qw(--json cert show web)) })->{out}, $soon ? qr/"ends_soon":\s*true/ : qr/"ends_soon":\s*false/, 'tao cert show, too');
}
ends(86400, 6 * 86400);
unlike(told('status'), qr/imported for key web/, 'six of seven days: it was made for a week');
ends(5 * 86400, 2 * 86400 + 60);
like(told('status'), qr/"warnings":\s*\[[^]]*imported for key web ends in 2 days.*"errors":\s*\[\]/s, 'two of seven');
$middle->sign($csr, "$dir/ended.pem", qw(-startdate 20200101000000Z -enddate 20200201000000Z));
spew($file, "tao imported certificate 1\n" . slurp("$dir/ended.pem") . slurp($middle->{cert})); # time has passed
my $ended = qr/the certificate that was imported for key web ended on \S+: peers refuse it; .*'tao cert request web'.*'tao cert import web'/;
like(told('status'), qr/^error\s+$ended\n.*"errors":\s*\["$ended"\]/ms, 'tao status: it has ended');
my $doctor = run(@{ tao('doctor') });
is($doctor->{status}, 1, 'tao doctor fails then');
like($doctor->{out}, qr/^error\s+$ended$/m, 'and says why');
fails_with(tao(qw(cert show web)), qr/has expired.*'tao cert request web'/, 'so does tao cert show');
ok_run(tao(qw(cert import web), joined($root->{cert}, "$dir/leaf1.pem"), $middle->{cert}), 'the first one again');
unlike(told($_), qr/imported for key web/, "$_: nothing is wrong") for qw(status doctor);

# --- nginx, and curl that has never heard of the Tao

my $conf = $host->conf('quick', 'renew = 1');
my $port = free_port();
my $nginx_conf = nginx_conf("$dir/nginx", $port, $file, "$state/keys/$>/web.pem",
	{ main => 'daemon off;', log => 'stderr', says => "heard \$arg_say\n" });
my $nginx_log = ok_run(tao('run', '--prepare', '--', $nginx, '-c', $nginx_conf), 'nothing is wrong before the start');
is($nginx_log->{err}, '', 'nobody misses a certificate of the domain');
my $server = spawn(@{ tao('run', '--openssl-conf', $conf, '--', $nginx, '-c', $nginx_conf) });
my @curl = (qw(curl -sS --max-time 20 --cacert), $root->{cert}, '--resolve', "www.example.test:$port:127.0.0.1");
wait_for(sub { run(@curl, "https://www.example.test:$port/?say=up")->{out} eq "heard up\n" }, 30) or diag($server->log);
for my $version (qw(1.2 1.3)) {
	is(ok_run([ @curl, "--tlsv$version", '--tls-max', $version, "https://www.example.test:$port/?say=hello" ], "curl, TLS $version")->{out},
		"heard hello\n", 'data both ways, with the root alone');
}
fails_with([ @curl, '--resolve', "other.test:$port:127.0.0.1", "https://other.test:$port/" ], qr/subject name/, 'not for another name');

sub shown {
	my $out = run($openssl, 's_client', '-connect', "127.0.0.1:$port", qw(-verify_return_error -verify_quiet -CAfile), $root->{cert},
		{ stdin => '', timeout => 20 })->{out};
	my ($pem) = $out =~ /(-----BEGIN CERT.*?END CERTIFICATE-----\n)/s or return '';
	return run($openssl, qw(x509 -noout -serial), { stdin => $pem })->{out} =~ /serial=(\w+)/ ? $1 : '';
}

# Both workers show a file's certificate, each once it has looked.
sub comes {
	my ($pem, $name) = @_;
	my $want = serial($pem);
	ok(wait_for(sub { !grep { shown() ne $want } 1 .. 8 }, 60), $name) or diag($server->log);
}

comes("$dir/leaf1.pem", 'nginx shows the imported one');
my $loop = "while test ! -e $dir/stop; do " . join(' ', @curl, "'https://www.example.test:$port/?say=load'") . ' || echo failed; done';
my @load = map { spawn('/bin/sh', '-c', $loop) } 1, 2;
$middle->sign($csr, "$dir/leaf2.pem");
ok_run(tao(qw(cert import web), "$dir/leaf2.pem", $middle->{cert}), 'the CA renews it, and it is imported');
comes("$dir/leaf2.pem", 'nginx shows the renewed one, without reload');

# One that is older, or for other names, does not take the place of what nginx was configured with.
sub imports { my ($pem) = @_; return ok_run(tao(qw(cert import web), $pem, $middle->{cert}), 'import of ' . $pem =~ s{.*/}{}r) }
my @before = map { strftime('%Y%m%d%H%M%SZ', gmtime(time + $_)) } -9 * 86400, 9 * 86400;
$middle->sign($csr, "$dir/older.pem", '-startdate', $before[0], '-enddate', $before[1]);
ok_run(tao(qw(cert request web --dns other.example.test --out), "$dir/others.csr"), 'a request for another name');
$middle->sign("$dir/others.csr", "$dir/others.pem");
for my $name (qw(older others)) {
	imports("$dir/$name.pem");
	comes("$dir/leaf1.pem", 'nginx shows its first one instead');
	imports("$dir/leaf2.pem");
	comes("$dir/leaf2.pem", 'and the renewed one again');
}

# The domain has something to say by now: its renewal leaves the file alone.
my $is = slurp($file);
ok_run(tao('trust', $nginx, qw(--serves www.example.test)), 'the domain trusts nginx, too');
comes("$dir/leaf2.pem", 'nginx goes on with the CA\'s');
ok_run(tao('run', '--prepare', '--', $nginx, '-c', $nginx_conf), 'nginx starts once more');
is(slurp($file), $is, 'the file is as it was');

# --- rotation

my $rotated = ok_run(tao(qw(key rotate web)), 'the key is rotated');
like($rotated->{err}, qr/does not fit generation 2.*tao cert request web.*import/, 'which says that the certificate does not fit, and what to do');
like(ok_run(tao(qw(key show web)), 'tao key show')->{out}, qr/imported, but for another generation/, 'says so');
like(run(@{ tao(qw(--json key show web)) })->{out}, qr/"cert_fits":\s*false/, 'as JSON, too');
like(run(@{ tao('status') })->{out}, qr/^error\s+the certificate that was imported for key web is for another generation of it: .*'tao cert request web'/m, 'and tao status');
fails_with(tao(qw(cert show web)), qr/does not fit generation 2/, 'so does tao cert show');
like(run(@{ tao('run', '--prepare', '--', $nginx, '-c', $nginx_conf) })->{err}, qr/no certificate for key web.*generation 2/, 'and tao run');
comes("$dir/leaf2.pem", 'running programs go on with the generation before');
fails_with(tao(qw(cert import web), "$dir/leaf2.pem", $middle->{cert}), qr/none of the certificates is for key web as it is now/, 'the old one is not imported again');
ok_run(tao(qw(cert request web --dns www.example.test --dns example.test --out), "$dir/web2.csr"), 'a request of the new generation');
$middle->sign("$dir/web2.csr", "$dir/leaf3.pem");
ok_run(tao(qw(cert import web), "$dir/leaf3.pem", $middle->{cert}), 'its certificate is imported');
comes("$dir/leaf3.pem", 'nginx shows the new key');
spew("$dir/stop", '');
$_->wait(30) for @load;
my $said = join '', map { $_->log } @load;
cmp_ok(scalar(() = $said =~ /^heard load$/mg), '>=', 10, 'there was load');
is($said =~ s/^heard load\n//mgr, '', 'and no request failed');
is(scalar(() = $server->log =~ /reconfiguring/g), 0, 'nginx was never reloaded');

# --- taking it away

ok_run(tao(qw(cert remove web)), 'tao cert remove');
like(ok_run(tao(qw(key show web)), 'tao key show')->{out} , qr/none yet|until/, 'knows of no imported one');
comes("$dir/leaf1.pem", 'nginx shows its first one, for the domain\'s is no successor of the CA\'s');
$server->stop('QUIT');
ok_run(tao('run', '--prepare', '--', $nginx, '-c', $nginx_conf), 'the next start');
like(ok_run(tao(qw(cert show web)), 'shows')->{out}, qr/^origin\s+the domain$/m, 'the domain\'s certificate');
fails_with(tao(qw(cert import web), "$file", "$state/policy.pem"), qr/certificate of the domain/, 'which is not to be imported');

# --- the openssl command: the key makes its own request, tao: URIs give what was imported

ok_run(tao(qw(key new pub --for), $openssl), 'a key for openssl');
ok_run([ tao_openssl(qw(req -new -key tao:pub -subj /CN=localhost -addext subjectAltName=DNS:localhost -out), "$dir/pub.csr") ], 'openssl req -new -key tao:pub');
$middle->sign("$dir/pub.csr", "$dir/pub.pem");
is(run($host->cmd(qw(cert import pub -)), { stdin => slurp("$dir/pub.pem") . slurp($middle->{cert}) })->{status}, 0, 'import from standard input');
like(ok_run([ tao_openssl(qw(storeutl -noout tao:pub)) ], 'storeutl tao:pub')->{out}, qr/Total found: 3/, 'key, certificate, intermediate');
is(serial(spew("$dir/x", ok_run([ tao_openssl(qw(x509 -in tao:pub/cert)) ], 'tao:pub/cert')->{out})), serial("$dir/pub.pem"), 'the certificate');
is(serial(spew("$dir/x", ok_run([ tao_openssl(qw(storeutl -certs tao:pub/chain)) ], 'tao:pub/chain')->{out})), serial($middle->{cert}), 'the intermediate');
my $p2 = free_port();
my $ss = spawn(tao_openssl('s_server', '-accept', "127.0.0.1:$p2", qw(-cert tao:pub -key tao:pub -cert_chain tao:pub/chain -rev)));
ok($ss->wait_for_line(qr/ACCEPT/, 20), 's_server with the URIs') or diag($ss->log);
like(talk("public\n", qr/cilbup$/, $openssl, 's_client', '-connect', "127.0.0.1:$p2", qw(-verify_return_error -verify_hostname localhost -ign_eof -CAfile), $root->{cert}),
	qr/cilbup$/m, 'a client that trusts the root alone: data both ways');
$ss->stop;

# --- the file

my $pub = "$state/certs/$>/pub.pem";
my $good = slurp($pub);
spew($pub, $good =~ s/certificate 1/certificate 2/r);
fails_with([ tao_openssl(qw(x509 -in tao:pub/cert)) ], qr/newer version|not known|upgrade/i, 'a newer format is refused');
spew($pub, "tao imported certificate 1\nnothing\n");
fails_with(tao(qw(cert show pub)), qr/import it again/, 'a file without a certificate');
spew($pub, $good);

SKIP: {
	skip 'only root becomes another user', 4 if $> != 0;
	my @nobody = qw(setpriv --reuid=65534 --regid=65534 --clear-groups);
	skip 'setpriv or the build tree cannot be reached', 4 if run(@nobody, 'test', '-r', module_dir() . '/tao.so')->{status} != 0;
	fails_with([ @nobody, @{ tao(qw(cert import pub --user 0), "$dir/pub.pem") } ], qr/only the host's owner/, 'another user imports nothing for root');
	fails_with([ @nobody, @{ tao(qw(cert remove pub --user 0)) } ], qr/only the host's owner/, 'takes nothing away');
	fails_with([ @nobody, @{ tao(qw(cert request pub --user 0 --dns a.test)) } ], qr/only the host's owner/, 'asks for nothing');
	fails_with([ @nobody, @{ tao(qw(cert import pub), "$dir/pub.pem") } ], qr/there is no key pub for user 65534/, 'and has no such key');
}

done_testing();
