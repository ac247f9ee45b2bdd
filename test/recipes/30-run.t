# tao run: what a program finds when it starts under a host, and the commands
# that show it.
use strict;
use warnings;

use File::Copy qw(copy);
use IO::Socket::UNIX;
use JSON::PP;
use Test::More;
use TaoTest;

my $dir = tmpdir();
my $host = start_host();

sub sh { return run('sh', '-c', @_) }

sub json {
	my $r = $host->tao(@_, '--json');
	is($r->{status}, 0, "tao @_ --json") or diag($r->{err});
	return eval { decode_json($r->{out}) };
}

sub tao_run { return $host->tao('run', @_) }

# --- it is the program that runs

my $r = tao_run('--', 'sh', '-c', 'exit 7');
is($r->{status}, 7, 'the exit status is the program\'s');
is($r->{err}, '', 'and nothing is said');
is(tao_run('sh', '-c', 'kill -TERM $$')->{status}, 128 + 15, 'so is its death by a signal');
is(tao_run('true')->{status}, 0, 'and its success');
$r = $host->tao('run', 'cat', { stdin => "in\0and out\n" x 5000 });
is($r->{out}, "in\0and out\n" x 5000, 'standard input and output are its own');
is(tao_run('sh', '-c', 'echo gone >&2')->{err}, "gone\n", 'and standard error');
is(tao_run('sh', '-c', 'echo "$0"', '--json', 'x')->{out}, "--json\n", 'its options are not ours');
like(tao_run('sh', '-c', 'cat /proc/$$/cmdline')->{out}, qr/^sh\0-c\0/, 'argv[0] is as it was written');
my $cmd = join ' ', map { "'$_'" } $host->cmd('run');
my ($before, $after) = split /\n/, sh("echo \$\$; exec $cmd sh -c 'echo \$\$'")->{out};
is($after, $before, 'the process stays the same');

# --- its environment

my %dirty = (SECRET => 'x', LD_LIBRARY_PATH => '/tmp', LD_BIND_NOT => 1, TAO_DOOR => '7:7', HOME => '/x',
	PATH => "$ENV{PATH}:/x", USER => 'x', OPENSSL_CONF => '/x', TERM => 'vt220', LC_TIME => 'C', TZ => 'UTC',
	LISTEN_FDNAMES => 'a', INVOCATION_ID => 'i', MINE => 'passed');
sub environment {
	my $r = $host->tao('run', @_, 'env', { env => \%dirty });
	is($r->{status}, 0, "tao run @_ env") or diag($r->{err});
	my (%seen, @twice);
	push @twice, grep { $seen{$_}++ } $r->{out} =~ /^(\w+)=/mg;
	is("@twice", '', 'no variable is there twice');
	return map { /^(\w+)=(.*)$/s ? ($1 => $2) : () } split /\n/, $r->{out};
}
my %env = environment();
delete @env{qw(LD_PRELOAD ASAN_OPTIONS)} if config('TAO_ASAN');
my @pw = getpwuid($<);
my %want = (TERM => 'vt220', LC_TIME => 'C', TZ => 'UTC', LISTEN_FDNAMES => 'a', INVOCATION_ID => 'i',
	HOME => $pw[7], USER => $pw[0], LOGNAME => $pw[0], OPENSSL_CONF => $host->dir . '/openssl.cnf',
	PATH => '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin');
is($env{$_}, $want{$_}, "\$$_") for sort keys %want;
like($env{TAO_DOOR}, qr/^\d{3,}:\d+$/, '$TAO_DOOR is a descriptor above those that programs use');
isnt($env{TAO_DOOR}, $dirty{TAO_DOOR}, 'and not the caller\'s');
delete @env{ keys %want, qw(TAO_DOOR TAO_SOCKET OPENSSL_MODULES LANG) };
is_deeply([ grep { !/^(?:LC_|LISTEN_|WATCHDOG_|NOTIFY_SOCKET|JOURNAL_STREAM)/ } sort keys %env ], [],
	'and nothing else');
%env = environment('--env', 'GIVEN=a=b c', '--env', 'MINE', '--env', 'GIVEN=last');
is($env{GIVEN}, 'last', '--env NAME=VALUE, the last counts');
is($env{MINE}, 'passed', '--env NAME');

# --- its descriptors

spew("$dir/five", "five\n");
my $look = "sh -c 'cat <&5; ls /proc/self/fd | wc -l'";
my $open = "exec 5<$dir/five 6</dev/null";
$r = sh("$open; $look; $open; $cmd $look");
my @counts = $r->{out} =~ /^five\n(\d+)\n/mg;
is(scalar @counts, 2, 'an open descriptor arrives') or diag($r->{out}, $r->{err});
is($counts[1], $counts[0] + 1, 'and no other but the door');
$r = tao_run('sh', '-c', 'echo $TAO_DOOR; readlink /proc/self/fd/${TAO_DOOR%%:*}');
my ($inode) = $r->{out} =~ /^\d+:(\d+)$/m;
like($r->{out}, qr/^socket:\[$inode\]$/m, 'the door is the socket that TAO_DOOR names');
$r = sh("ulimit -n 40; exec $cmd sh -c 'echo \$TAO_DOOR'");
like($r->{out}, qr/^\d{1,2}:\d+$/, 'with few descriptors its number is lower') or diag($r->{err});
$r = sh("$cmd sh -c 'test -e /proc/self/fd/0 || echo closed' <&-");
is($r->{out}, "closed\n", 'a closed standard descriptor stays closed');

# --- programs that are not run

for ([ 127, "$dir/nothing" ], [ 127, 'no-such-program' ], [ 126, $dir ]) {
	my ($status, $program) = @$_;
	is(tao_run($program)->{status}, $status, "tao run $program exits with $status");
}
spew("$dir/text", "neither ELF nor script\n");
chmod 0755, "$dir/text";
$r = tao_run("$dir/text");
ok($r->{status} == 126 && $r->{err} =~ /^tao run: \S.*\n\z/, 'a file that is no program') or diag($r->{err});
is(tao_run('--config', "$dir/nowhere", 'true')->{status}, 126, '--config of a missing file');

# What another user could change is executed from a copy that nobody can.
mkdir "$dir/theirs" or die;
copy('/bin/readlink', "$dir/theirs/readlink") or die;
chmod 0755, "$dir/theirs/readlink";
chown 65534, 65534, "$dir/theirs", "$dir/theirs/readlink" if $< == 0;
$r = tao_run("$dir/theirs/readlink", '/proc/self/exe');
is($r->{status}, 0, 'a program in an own directory') or diag($r->{err});
like($r->{out}, qr{^/memfd:}, 'is a copy, where that is another user\'s') if $< == 0;
$r = $host->tao('run', './readlink', '/proc/self/comm', { dir => "$dir/theirs" });
is($r->{status}, 1, 'by a relative path too') or diag($r->{err});

# --- tao ps

my @sleepers = map { spawn($host->cmd('run', '--name', "sleeper$_", 'sleep', '100')) } 1, 2;
sub listed { return grep { ($_->{label} // '') =~ /^sleeper/ } @{ decode_json($host->tao(qw(--json ps))->{out}) } }
ok(wait_for(sub { return listed() == 2 }, 10), 'tao ps lists two programs');
my %by_label = map { $_->{label} => $_ } listed();
for my $i (0, 1) {
	my $got = $by_label{'sleeper' . ($i + 1)};
	is($got->{pid}, $sleepers[$i]->pid, 'with the process');
	like($got->{principal}, qr/^key\(\[[0-9a-f]{64}\]\)\..*\.Measured\(\[[0-9a-f]{64}\], \[[0-9a-f]{64}\], $<\)\./,
		'and its name');
	is($got->{uid}, $<, 'and its user');
}
is($by_label{sleeper1}{principal}, $by_label{sleeper2}{principal}, 'the same program has one name');
$r = $host->tao('ps');
my @lines = split /\n/, $r->{out};
like($lines[0], qr{^NAME +PID +USER +SINCE +KEYS +OPERATIONS$}, 'tao ps prints a table');
my ($row) = grep { /sleeper1/ } @lines;
is(index($lines[0], 'USER'), index($row, getpwuid $<), 'that is aligned');
$r = $host->tao('doctor', $sleepers[0]->pid);
ok($r->{status} == 1 && $r->{out} =~ /^ok .*the host knows it as key/m && $r->{out} =~ /^error .*libcrypto/m,
	'tao doctor PID: a program without OpenSSL') or diag($r->{out}, $r->{err});
$r = $host->tao('doctor', $$);
ok($r->{status} == 1 && $r->{out} =~ /^error .*tao run/m, 'tao doctor PID: a program without the Tao')
    or diag($r->{out}, $r->{err});
$_->stop for @sleepers;
ok(wait_for(sub { return listed() == 0 }, 10), 'ended programs are not listed');

# --- keys and notices

$r = $host->tao(qw(key new mine --for openssl));
is($r->{status}, 0, 'tao key new') or diag($r->{err});
my ($stub) = $r->{out} =~ m{^stub +(/\S+)  \(use as ssl_certificate_key\)$}m;
my ($cert) = $r->{out} =~ m{^certificate +(/\S+) }m;
ok(defined $stub && -e $stub, 'prints where the stub is') or diag($r->{out});
ok(defined $cert && !-e $cert, 'and where the certificate will be');
is(slurp($stub), $host->tao(qw(key pem mine))->{out}, 'tao key pem prints it');
$host->tao('key', 'pem', 'mine', '--out', "$dir/mine.pem");
is(slurp("$dir/mine.pem"), slurp($stub), 'or writes it');
$r = $host->tao(qw(cert show mine));
ok($r->{status} == 1 && $r->{err} =~ /^tao cert show: .*tao/, 'no certificate yet') or diag($r->{err});
$r = tao_run(qw(openssl version));
like($r->{err}, qr/^tao run: no certificate for key mine: \S.*$/m, 'tao run says that there is none');
is(tao_run('--quiet', qw(openssl version))->{err}, '', 'but not with --quiet');
ok_run([ $host->cmd(qw(trust openssl --serves www.example.org)) ], 'tao trust');
$r = tao_run(qw(openssl version));
is($r->{err}, '', 'then it has nothing to say');
my $shown = json(qw(cert show mine));
is_deeply($shown->{dns_names}, ['www.example.org'], 'tao cert show: the DNS name');
like($shown->{principal}, qr/\.Measured\(/, 'the principal');
is($shown->{state}, 'valid', 'the validity');
$r = $host->tao(qw(cert show mine --pem));
is(() = $r->{out} =~ /BEGIN CERTIFICATE/g, 2, 'leaf and policy certificate as PEM');
like($host->tao(qw(cert show mine))->{out}, qr/^DNS name +www\.example\.org$/m, 'and for people');
is(json(qw(key list))->[0]{name}, 'mine', 'tao key list');
like($host->tao(qw(key list))->{out}, qr/^mine .* until \d{4}-/m, 'for people');
my $server = spawn($host->cmd('run', qw(openssl s_server -key tao:mine -cert tao:mine -accept),
	'127.0.0.1:' . free_port()));
# `tao run` asks the host before the program has loaded anything.
ok(wait_for(sub {
	$r = $host->tao('doctor', $server->pid);
	return $r->{status} == 0 && $r->{out} =~ /^ok .*has loaded .*tao\.so$/m && $r->{out} =~ /^ok .*asked the host \d+ times/m;
}, 60),
	'tao doctor PID finds that it uses the Tao') or diag($r->{out}, $r->{err});
$server->stop;
fails_with([ $host->cmd(qw(key new mine --for openssl)) ], qr/^tao key new: .*mine/, 'a key that is there');
fails_with([ $host->cmd(qw(key pem nowhere)) ], qr/^tao key pem: .*nowhere/, 'a key that is not');
fails_with([ $host->cmd(qw(key new ../x --for openssl)) ], qr/^tao key new: /, 'a bad name');

# --- policy

my $rules = json(qw(policy show));
ok((grep { /^TrustedProgram\(\[[0-9a-f]{64}\]\)$/ } @{ $rules->{facts} }), 'tao trust made a fact');
my $fact = 'Revoked([' . '00' x 32 . '])';
ok_run([ $host->cmd('policy', 'add', $fact) ], 'tao policy add');
ok((grep { $_ eq $fact } split /\n/, $host->tao(qw(policy show))->{out}), 'is there');
fails_with([ $host->cmd('policy', 'add', $fact) ], qr/^tao policy add: /, 'only once');
ok_run([ $host->cmd('policy', 'remove', $fact) ], 'tao policy remove');
fails_with([ $host->cmd('policy', 'remove', $fact) ], qr/^tao policy remove: /, 'only once');
fails_with([ $host->cmd('policy', 'add', 'Frob(') ], qr/^tao policy add: /, 'nonsense');
is(json(qw(policy show))->{version}, $rules->{version} + 2, 'the version counts changes');
ok_run([ $host->cmd(qw(trust openssl --remove)) ], 'tao trust --remove');
ok(!(grep { /^TrustedProgram/ } @{ json(qw(policy show))->{facts} }), 'takes the fact back');

# --- the host

my $status = json('status');
is($status->{dir}, $host->dir, 'tao status');
ok($status->{running} && $status->{keys} == 1, 'knows what there is') or diag(explain($status));
like($host->tao('status')->{out}, qr/^principal +key\(\[/m, 'and for people');
$r = $host->tao('doctor');
ok($r->{status} == 0 && $r->{out} =~ /^ok .*openssl loads the tao provider$/m, 'tao doctor finds all well')
    or diag($r->{out}, $r->{err});
is(ok_run([ $host->cmd(qw(conf print)) ], 'tao conf print')->{out}, slurp($host->dir . '/openssl.cnf'),
	'prints what taod writes');
is($host->tao('conf', 'check', $host->dir . '/openssl.cnf')->{status}, 0, 'and tao conf check likes it');
$r = $host->tao('up', '--passphrase-file', $host->passfile);
ok($r->{status} == 0 && $r->{out} =~ /is running already/, 'tao up, again') or diag($r->{err});
fails_with([ $host->cmd('up', '--foreground', '--passphrase-file', $host->passfile) ],
	qr/is running already/, 'but not for a supervisor');
fails_with([ $host->cmd('init', '--passphrase-file', $host->passfile) ], qr/there is a Tao host in/,
	'tao init, again');
my $pid = $status->{pid};
ok_run([ $host->cmd('down') ], 'tao down');
ok(!defined readlink "/proc/$pid/exe", 'waits until the host is gone');
like(ok_run([ $host->cmd('down') ], 'tao down, again')->{out}, qr/was not running/, 'says so');
$r = tao_run('true');
ok($r->{status} == 126 && $r->{err} =~ /is not running: start it with 'tao -d \S+ up'/, 'tao run then')
    or diag($r->{err});
$r = $host->tao('status', '--json');
ok($r->{status} == 1 && !decode_json($r->{out})->{running}, 'tao status then');
is(ok_run([ $host->cmd(qw(conf print)) ], 'tao conf print then')->{out}, slurp($host->dir . '/openssl.cnf'),
	'still prints it');
spew("$dir/wrong", "wrong\n");
fails_with([ $host->cmd('up', '--passphrase-file', "$dir/wrong") ], qr/passphrase/, 'a wrong passphrase');
$r = run($host->cmd('up', '--passphrase-fd', 0), { stdin => slurp($host->passfile) });
is($r->{status}, 0, 'tao up --passphrase-fd') or diag($r->{err});
ok_run([ $host->cmd('down') ], 'tao down');
mkdir "$dir/credentials";
copy($host->passfile, "$dir/credentials/passphrase");
ok_run([ $host->cmd('up') ], 'tao up with a credential', { env => { CREDENTIALS_DIRECTORY => "$dir/credentials" } });

# --- in the foreground

ok_run([ $host->cmd('down') ], 'tao down');
my $taod = spawn($host->cmd('up', '--foreground', '--passphrase-file', $host->passfile));
ok(wait_for(sub { return $host->tao('status')->{status} == 0 }, 10), 'tao up --foreground');
is(json('status')->{pid}, $taod->pid, 'is the host itself');
is($taod->stop('TERM'), 0, 'and ends well') or diag($taod->log);

# --- where its socket is: what listens where it would be by default is another host's

my $moved = "$dir/moved";
my $conf = slurp($host->dir . '/taod.conf');
spew("$dir/included.cnf", "socket = $moved\n");
mkdir $host->dir . '/run';
for my $way ([ 'said', "socket = $moved\n" ], [ 'said after a comment', "# here\n  socket=\"$moved\"\n" ],
	[ 'included', ".include $dir/included.cnf\n" ]) {
	my ($how, $text) = @$way;
	spew($host->dir . '/taod.conf', "$conf\n$text");
	ok_run([ $host->cmd('up', '--passphrase-file', $host->passfile) ], 'tao up');
	my $wrong = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $host->dir . '/run/tao.sock', Listen => 1);
	is(tao_run(qw(echo moved))->{out}, "moved\n", "a socket elsewhere, $how");
	close $wrong if $wrong;
	unlink $host->dir . '/run/tao.sock';
	ok_run([ $host->cmd('down') ], 'tao down');
}
spew($host->dir . '/taod.conf', $conf);

done_testing();
