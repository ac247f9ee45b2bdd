# Who gets which certificate: what a second user, a second start, a script or
# a key that everybody may use must not get.
use strict;
use warnings;
use Test::More;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $host = start_host();
my $state = $host->dir;
my $dir = tmpdir();
chmod 0755, $dir;
sub tao { return [ $host->cmd(@_) ] }
sub subject { return ok_run(tao('run', '--quiet', $openssl, qw(x509 -noout -subject -ext subjectAltName -in), @_), "@_")->{out} }

ok_run(tao(qw(key new web --for), $openssl), 'a key');
ok_run(tao('trust', $openssl, qw(--serves www.example.org)), 'trusted, for a name');
like(subject('tao:web'), qr/DNS:www\.example\.org/, 'it gets the name');

# -- another start must not take over a running program's file --

my $server = spawn(@{ tao('run', $openssl, 's_server', '-accept', '127.0.0.1:' . free_port(), qw(-cert tao:web -key tao:web)) });
ok($server->wait_for_line(qr/ACCEPT/, 20), 'a server runs') or diag $server->log;
my $file = "$state/certs/$>/web.pem";
my $held = slurp($file);
ok_run(tao('run', '--quiet', $openssl, 'version'), 'another start, with other arguments');
is(slurp($file), $held, 'leaves the file of the running one');
my $other = subject('tao:web');
my ($manifest) = run($openssl, qw(x509 -noout -subject -in), $file)->{out} =~ /\], \[(\w+)\], $>\)/;
unlike($other, qr/$manifest/, 'and has its own name in tao:web');
is(slurp($file), $held, 'still');
$server->stop;
ok(wait_for(sub { run(@{ tao('ps') })->{out} !~ /s_server|openssl/ }, 10), 'it ends');
ok_run(tao('run', '--quiet', $openssl, 'version'), 'the next start');
isnt(slurp($file), $held, 'takes the file');

# -- scripts and shared keys --

spew("$dir/app.sh", "#!/bin/sh\nexit 0\n");
chmod 0755, "$dir/app.sh";
fails_with(tao('trust', "$dir/app.sh"), qr/script|interpreter/, 'a script is not trusted through its interpreter');
ok_run(tao(qw(key new shared --policy host --for), $openssl), 'a key for every program');
fails_with(tao('run', '--quiet', $openssl, qw(x509 -in tao:shared/cert)), qr/every program/, 'has no certificate');

# -- taking back --

ok_run(tao('trust', $openssl, qw(--serves second.example.org)), 'a second name');
ok_run(tao('trust', $openssl, qw(--remove --serves www.example.org)), 'one name taken back');
my $names = subject('tao:web');
like($names, qr/second\.example\.org/, 'the other stays');
unlike($names, qr/www\.example\.org/, 'it is gone at once');
ok_run(tao('trust', $openssl, '--remove'), 'all taken back');
unlike(ok_run(tao(qw(policy show)), 'the policy')->{out}, qr/Serves|TrustedProgram/, 'holds nothing of it');

# -- an upgrade that nobody was told of: what to do --

{
	my $app = "$dir/app";
	my $put = sub { my ($bytes) = @_; spew("$app.new", $bytes); chmod 0755, "$app.new"; rename "$app.new", $app };
	my @sign = ('run', '--quiet', $app, qw(dgst -sign tao:app -out), "$dir/sig", $openssl);
	$put->(slurp($openssl) . "w"); # not the same program
	ok_run(tao(qw(key new app --for), $app), 'a key of another program');
	ok_run(tao('trust', $app), 'which is trusted');
	ok_run(tao(@sign), 'it signs');
	$put->(slurp($openssl) . 'x');
	fails_with(tao(@sign), qr/the executable that was at \Q$app\E before: if this one is its upgrade, 'tao trust \Q$app\E'/, 'upgraded: why not, and what to do');
	fails_with(tao('run', '--quiet', $openssl, @sign[ 3 .. $#sign ]), qr/sealed for another program \(\Q$app\E\), not for this executable of \Q$openssl\E/,
		'while another program is not its upgrade');
	ok_run(tao('trust', $app), 'tao trust, as it was told');
	ok_run(tao(@sign), 'it signs');
}

fails_with([ bin('taod'), '-d', $state, qw(--passphrase-fd abc -f) ], qr/taod: /, 'a descriptor that is no number');
my $conf = slurp("$state/taod.conf");
spew("$state/taod.conf", "$conf\n[tls]\nworkers = 1\n");
fails_with([ bin('taod'), '-d', $state, '--test' ], qr/no sections/, 'a section in taod.conf');
spew("$state/taod.conf", $conf);

SKIP: {
	skip 'only root becomes another user', 6 if $> != 0;
	my @nobody = qw(setpriv --reuid=65534 --regid=65534 --clear-groups);
	skip 'setpriv or the build tree cannot be reached', 6 if run(@nobody, 'test', '-r', module_dir() . '/tao.so')->{status} != 0;
	ok_run(tao('trust', $openssl, qw(--serves www.example.org)), 'trusted again, for root');
	ok_run([ @nobody, @{ tao(qw(key new web --for), $openssl) } ], 'another user\'s key');
	my $theirs = ok_run([ @nobody, @{ tao('run', '--quiet', $openssl, qw(x509 -noout -text -in tao:web)) } ], 'a certificate')->{out};
	unlike($theirs, qr/www\.example\.org/, 'without root\'s name');
	ok_run(tao('trust', $openssl, qw(--serves nobody.example.org --user 65534)), 'a name for that user');
	like(ok_run([ @nobody, @{ tao('run', '--quiet', $openssl, qw(x509 -noout -text -in tao:web)) } ], 'again')->{out},
		qr/nobody\.example\.org/, 'is in it');
}

done_testing();
