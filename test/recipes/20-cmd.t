# tao(1) as far as it works without a running host: usage, global options,
# conf check, and what tao run says when it cannot run.
use strict;
use warnings;

use File::Basename qw(basename);
use File::Copy qw(copy);
use JSON::PP;
use POSIX ();
use Test::More;
use TaoTest;

my $dir = tmpdir();
my %env = (TAO_DIR => "$dir/none", CREDENTIALS_DIRECTORY => undef, OPENSSL_MODULES => undef);

sub tao { return run(bin('tao'), @_, { env => \%env }) }

sub exits {
	my ($args, $status, $like, $name) = @_;
	my $r = tao(@$args);
	my $text = $status ? $r->{err} : $r->{out};
	ok($r->{status} == $status && $text =~ $like, $name)
	    or diag("exit status $r->{status}, wanted $status and $like\n$r->{out}$r->{err}");
	return $r;
}

# --- usage

my @commands = map { /^  (\w+(?: [a-z]+)?)  / ? $1 : () } split /\n/, tao('--help')->{out};
cmp_ok(scalar @commands, '>=', 17, 'tao --help lists the commands');
for my $command (@commands) {
	my @words = split / /, $command;
	exits([ @words, '--help' ], 0, qr/^usage: tao $command\b.*--version$/ms, "tao $command --help");
	my $r = exits([ @words, '--frobnicate' ], 2, qr/^tao $command: unknown option '--frobnicate'$/m,
		"tao $command --frobnicate");
	is($r->{out}, '', 'and nothing on standard output');
}
my $manual = slurp(srctop() . '/man/tao.1');
my $options = 0;
for my $command (@commands) {
	ok($manual =~ /^\.It Cm $command\b/m, "tao(1) has $command");
	for my $option (tao(split(/ /, $command), '--help')->{out} =~ /^  --([a-z-]+)/mg) {
		next if $option eq 'json' || $option eq 'help';
		$options++;
		ok($manual =~ /^\.It Fl -$option\b/m, "and --$option");
	}
}
cmp_ok($options, '>=', 20, 'they have options');

exits([], 2, qr/^usage: tao /, 'tao alone');
exits(['frob'], 2, qr/^tao: there is no command 'frob'$/m, 'an unknown command');
exits(['key'], 2, qr/^  key new /m, 'half a command');
exits([ 'key', '--help' ], 0, qr/^  key new .*^  key pem /ms, 'and its help');
exits([ 'key', 'frob' ], 2, qr/^tao key: there is no command 'key frob'$/m, 'an unknown half');
exits(['--version'], 0, qr/^tao \Q@{[config('TAO_VERSION')]}\E \(OpenSSL [3-9]/, '--version');
exits([ 'ps', '--version' ], 0, qr/^tao \d/, '--version after the command');
exits([ '-x' ], 2, qr/^tao: unknown option '-x'$/m, 'an unknown short option');
exits([ 'ps', '-d' ], 2, qr/option '-d' needs a value/, 'an option without its value');
exits([ 'ps', '--json=1' ], 2, qr/option '--json' takes no value/, 'an option with one too much');
exits([ 'ps', 'more' ], 2, qr/'more' is too much/, 'an operand too much');
exits([ 'ps', "\e[31m" ], 2, qr/'\\x1b\[31m' is too much/, 'control characters are escaped');
exits(['policy', 'add'], 2, qr/something is missing/, 'an operand that is missing');
exits([ qw(key new web --for ls --policy mine) ], 2,
	qr/--policy is program, exact, host or policy, not 'mine'/, 'a word that is none of the list');
exits([ qw(key new web --for ls extra) ], 2, qr/arguments go with --policy exact/, 'arguments');
exits([ qw(key new web) ], 2, qr/--for PROGRAM is missing/, 'a key for nobody');
exits([ qw(doctor me) ], 2, qr/PID is a process number, not 'me'/, 'a PID that is none');

# --- no host

exits([ '-d', "$dir/a", 'ps' ], 1, qr{^tao ps: there is no Tao host in \Q$dir\E/a: make one}, '-d before');
exits([ 'ps', '-d', "$dir/b" ], 1, qr{^tao ps: there is no Tao host in \Q$dir\E/b: make one}, '-d after');
exits([ 'ps' ], 1, qr{^tao ps: there is no Tao host in \Q$dir\E/none: make one}, 'TAO_DIR');
exits([ 'run', 'true' ], 126, qr{^tao run: there is no Tao host in }, 'tao run without a host');
exits([ 'run', '/nonexistent/true' ], 127, qr{^tao run: /nonexistent/true: no such program},
	'tao run without a program');
exits([ 'run', 'nonexistent-program' ], 127, qr{^tao run: nonexistent-program: no such program},
	'nor one in the path');
exits([ 'run', '/etc' ], 126, qr{^tao run: /etc is a directory}, 'a directory');
spew("$dir/plain", '');
exits([ 'run', "$dir/plain" ], 126, qr{^tao run: \Q$dir\E/plain is not executable}, 'a plain file');
exits([ 'run', '--env', '1=2', 'true' ], 2, qr/--env is NAME=VALUE or NAME, not '1=2'/, '--env 1=2');
exits([ 'run', '--env', 'NOT_HERE', 'true' ], 2, qr/--env NOT_HERE: there is no such variable/,
	'--env of an absent variable');
exits([ 'run', '--env', "$_=x", 'true' ], 2, qr/--env may not set $_: /, "--env $_")
    for qw(OPENSSL_CONF OPENSSL_MODULES LD_PRELOAD LD_LIBRARY_PATH TAO_DOOR);
exits([ 'run', '--measure=half', 'true' ], 2, qr/--measure is closure or program/, '--measure=half');
exits(['run'], 2, qr/^tao run: no program is given$/m, 'tao run alone');
exits([ 'run', 'true', '--help' ], 126, qr/no Tao host/, 'options end at the program');

# A closed standard descriptor is not given to a socket or file.
my $r = run('sh', '-c', '"$0" ps 2>&-; echo $?', bin('tao'), { env => \%env });
is($r->{out}, "1\n", 'standard error may be closed');
$r = run('sh', '-c', '"$0" --help >&-', bin('tao'), { env => \%env });
ok($r->{status} == 1 && $r->{err} =~ /the output could not be written/, 'standard output is missed');
$r = run('sh', '-c', '"$0" --help >/dev/full', bin('tao'), { env => \%env });
ok($r->{status} == 1 && $r->{err} =~ /the output could not be written: the disk is full/, 'a full disk');

# --- passphrases

spew("$dir/empty", "\n");
exits([ '-d', "$dir/h", 'init', '--passphrase-file', "$dir/empty" ], 1, qr/^tao init: /, 'an empty passphrase');
exits([ '-d', "$dir/h", 'init', '--passphrase-file', "$dir/nowhere" ], 1, qr{\Q$dir\E/nowhere},
	'no such passphrase file');
exits([ '-d', "$dir/empty/a/b", 'init', '--passphrase-file', spew("$dir/given", "given\n") ], 1, qr{making the directory \Q$dir\E/empty(?:/a)?: .*: choose another with -d DIR or TAO_DIR},
	'a directory that cannot be made');
exits([ '-d', "$dir/h", 'init', '--passphrase-fd', 'x' ], 1, qr/--passphrase-fd is the number/,
	'a descriptor that is none');
exits([ '-d', "$dir/h", 'init', '--passphrase-fd', '0', '--passphrase-file', "$dir/empty" ], 1,
	qr/exclude each other/, 'two passphrases');
ok(!-e "$dir/h", 'and nothing was made');

# On a terminal: what it wrote, and its exit status. Each key stroke waits for its prompt.
sub on_terminal {
	my ($dialogue, @args) = @_;
	my $number = pack 'i', 0;
	open my $master, '+<', '/dev/ptmx' or return;
	ioctl($master, 0x40045431, $number) or return; # TIOCSPTLCK
	ioctl($master, 0x80045430, $number) or return; # TIOCGPTN
	my $tty = '/dev/pts/' . unpack 'i', $number;
	my $pid = fork // die "fork: $!\n";
	if (!$pid) {
		POSIX::setsid();
		open STDIN, '+<', $tty or POSIX::_exit(99); # the controlling terminal
		open STDERR, '>&', \*STDIN;
		exec { bin('tao') } 'tao', @args or POSIX::_exit(99);
	}
	my $seen = '';
	my $more = sub { my $n = sysread $master, $seen, 4096, length $seen; return $n };
	local $SIG{ALRM} = sub { kill 'KILL', $pid };
	alarm 30;
	for my $step (@$dialogue) {
		my ($prompt, $keys) = @$step;
		1 while $seen !~ /$prompt/ && $more->();
		syswrite $master, $keys;
	}
	1 while $more->();
	waitpid $pid, 0;
	alarm 0;
	return ($seen, $? & 127 ? 128 + ($? & 127) : $? >> 8);
}

SKIP: {
	my @init = ('-d', "$dir/terminal", 'init');
	my ($seen, $status) = on_terminal([ [ qr/host: $/, "sesame\n" ], [ qr/again: $/, "other\n" ] ], @init);
	skip 'there are no pseudoterminals', 5 if !defined $seen;
	like($seen, qr/the two passphrases differ/, 'a passphrase is typed twice');
	unlike($seen, qr/sesame/, 'and not shown');
	is($status, 1, 'and must be the same');
	($seen, $status) = on_terminal([ [ qr/host: $/, "ses\x03" ] ], @init);
	is($status, 128 + 2, 'Control-C interrupts the question');
	ok(!-e "$dir/terminal", 'and nothing was made');
}

# --- conf check

sub library { return (split ' ', (grep { m{/libc\.so} } split /\n/, run('ldd', bin('tao'))->{out})[0])[2] }
my %fill = (SCRIPT => srctop() . '/Configure', LIBRARY => library(), SOCKET => "$dir/no.sock");
# A module that is never loaded here: it only needs the right name in it.
my $module = module_dir() . '/tao.so';
$fill{MODULE} = $module;
$fill{TLS} = module_dir() . '/tao_tls.so';

for my $path (sort glob srctop() . '/test/data/conf/*.cnf') {
	my $name = basename($path, '.cnf');
	my $text = slurp($path);
	my @want = $text =~ /^# want: (.+)$/mg;
	my $works = grep { $_ eq 'works' } @want;
	$text =~ s/\@([A-Z]+)\@/$fill{$1}/g;
	spew("$dir/$name.cnf", $text);
	chmod 0644, "$dir/$name.cnf";
	my $r = tao('conf', 'check', "$dir/$name.cnf");
	is($r->{status}, $works ? 0 : 1, "conf check $name") or diag($r->{out}, $r->{err});
	my @missing = grep { $_ ne 'works' && $r->{out} !~ /^$_/m } @want;
	is("@missing", '', "conf check $name says why") or diag($r->{out}, $r->{err});
}

my $conf = "$dir/good.cnf";
{
	my $r = decode_json(tao('--json', 'conf', 'check', $conf)->{out});
	ok($r->{works}, 'conf check --json') or diag(explain($r));
	is_deeply([ sort keys %{ $r->{findings}[0] } ], [ sort qw(level file line text) ], 'has findings');
	chmod 0666, $conf;
	$r = tao('conf', 'check', $conf);
	ok($r->{status} == 1 && $r->{out} =~ /^error .*others than its owner may write it/m, 'a file that others may write')
	    or diag($r->{out}, $r->{err});
	chmod 0600, $conf;
	my $out = tao('conf', 'check', $conf);
	ok($out->{status} == 0 && $out->{out} =~ /^warning .*programs of other users cannot read it/m,
		'a file that others cannot read');
	# The same answers from OpenSSL itself.
	chmod 0644, $conf;
	$r = run('openssl', 'list', '-providers', { env => { OPENSSL_CONF => $conf, %{ preload_env() } } });
	like($r->{out}, qr/^  default\n.*^  tao\n/ms, 'openssl loads what conf check accepts');
}
like(tao('conf', 'check', "$dir/nowhere.cnf")->{out}, qr/^error .*nowhere\.cnf does not exist/m, 'no such file');

# --- what it is made of

SKIP: {
	skip 'sanitizers need libcrypto from the start', 1 if config('TAO_ASAN');
	unlike(run('readelf', '-d', bin('tao'))->{out}, qr/NEEDED.*libcrypto/, 'tao run starts programs without libcrypto');
}
mkdir "$dir/$_" or die for qw(there there/bin there/lib there/lib/tao);
my ($copy, $so) = ("$dir/there/bin/tao", "$dir/there/lib/tao/commands.so");
copy(bin('tao'), $copy) && copy(bldtop() . '/lib/tao/commands.so', $so) or die "$dir/there: $!\n";
chmod 0755, $copy;
chmod 0644, $so;
ok_run([ $copy, '--version' ], 'a copy finds its commands beside it');
SKIP: {
	skip 'one is installed', 3 if -e config('TAO_PREFIX') . '/lib/tao/commands.so';
	my $lost = qr/^tao: its commands cannot be loaded: install it again \(/;
	chmod 0666, $so;
	fails_with([ $copy, '--version' ], $lost, 'not those that anybody may write');
	chmod 0644, $so;
	SKIP: {
		skip 'another user can only be had by root', 1 if $> != 0;
		chown 65534, 65534, $so;
		fails_with([ $copy, '--version' ], $lost, 'nor another user\'s');
	}
	unlink $so;
	fails_with([ $copy, 'status' ], $lost, 'without them it says what to do');
}

done_testing();
