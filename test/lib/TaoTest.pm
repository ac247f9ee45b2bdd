package TaoTest;

# What the recipes share. A recipe is a Perl program with Test::More; test/run.pl
# gives it TAO_BUILD, TAO_SRC and perhaps TAO_VECTORS. All that a recipe starts
# with these functions is stopped at its end, by process id, and its scratch
# directory is removed, unless TAO_KEEP is set.
#
#   srctop() bldtop()        the two trees; bin('tao') and tool('x') are programs in the latter
#   module_dir()             for OPENSSL_MODULES
#   config('TAO_VERSION')    a value of config.h
#   tmpdir()                 the recipe's scratch directory, with a short path
#   slurp(FILE) spew(FILE, TEXT)
#   free_port()              a TCP port of 127.0.0.1 that nobody has, and no other recipe is given meanwhile
#   run(CMD..., {opt})       runs a command to its end: {status, out, err, timeout}; status is
#                            128 + N for signal N. Options: stdin (text), env (undef removes a
#                            variable), dir, timeout (seconds, 60)
#   ok_run([CMD], NAME, {})  a test: the command succeeds; returns the result of run()
#   fails_with([CMD], QR, NAME, {})  a test: it exits with an error which matches
#   spawn(CMD..., {opt})     starts a command: an object with pid, alive, log (both its outputs),
#                            wait_for_line(QR, SECONDS), wait(SECONDS), stop(SIGNAL). Options:
#                            stdin (a file), log (a file), env, dir
#   wait_for(SUB, SECONDS)   polls until SUB returns true, and returns that; or the last, when the time has
#                            passed. All seconds here are those of a machine of one's own: while twice as
#                            many want its processors as it has, they take twice as long
#   ended(PID, SECONDS)      waits until no thread of the process is left; a zombie counts as none
#   vectors(NAME)            that directory of the external vectors, or skips the recipe
#   $ECDSA_TYPE              how the openssl command calls a signature by P-256: 3.0 "ECDSA", later
#                            ones with curve and digest
#   found_none(TEXT)         what storeutl says if it finds nothing: 3.5 says nothing
#   need_programs(NAME...)   skips the recipe unless they are there
#   other_openssl(FILE...)   a sentence, if one of these programs and libraries has another libssl than that
#                            of the OpenSSL which the modules are built with: its connections are not
#                            reached. "" if not. need_same_openssl(FILE...) skips the recipe
#   only_with_all()          skips the recipe unless runtests --all asked for it
#   preload_env()            {env} for programs that load our modules outside `tao run`: what a
#                            build with sanitizers needs
#   start_host(%opt)         makes and starts a Tao host: an object with dir, passfile,
#                            cmd(ARGS...), tao(ARGS..., {opt}), down; taken down at the end. Options: dir,
#                            passphrase, init => [ARGS], up => [ARGS], env. conf(NAME, LINES...) writes
#                            tmpdir()/NAME.cnf, its openssl.cnf with these settings of tao_tls, behind which
#                            sections of their own may follow, and returns the path; set(LINES...) changes
#                            its openssl.cnf itself

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Path qw(remove_tree);
use File::Temp ();
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ':sys_wait_h';
use Test::More ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(srctop bldtop bin tool module_dir config tmpdir slurp spew free_port run ok_run
    fails_with spawn talk wait_for ended vectors need_programs other_openssl need_same_openssl only_with_all preload_env start_host
    $ECDSA_TYPE found_none);
our $ECDSA_TYPE = qr/(?:ECDSA|ecdsa_secp256r1_sha256)/;

my $main_pid = $$;
my $FIRST_PORT = 10000;
my ($tmpdir, %config, @port_marks, @processes, @hosts, $processors);
my $files = 0;

# A signal ends the recipe by way of END; so does the end of prove, who reads what it prints.
$SIG{$_} = sub { $SIG{PIPE} = 'IGNORE'; exit 1 } for qw(HUP INT PIPE TERM);

sub needed {
	my ($name) = @_;
	return $ENV{$name} // die "$name is not set: start recipes with make check or ./runtests\n";
}

sub srctop { return needed('TAO_SRC') }
sub bldtop { return needed('TAO_BUILD') }
sub bin { return bldtop() . "/bin/$_[0]" }
sub tool { return bldtop() . "/test/tool/$_[0]" }
sub module_dir { return bldtop() . '/modules' }

sub config {
	my ($name) = @_;
	if (!%config) {
		%config = slurp(bldtop() . '/config.h') =~ /^#define (\w+) (.*)$/mg;
		s/^"(.*)"$/$1/ for values %config;
	}
	return $config{$name};
}

sub tmpdir {
	if (!defined $tmpdir) {
		$tmpdir = abs_path(File::Temp::tempdir('tao-t-XXXXXX', TMPDIR => 1));
		# Programs of other users may have to reach what is in it.
		chmod 0755, $tmpdir;
	}
	return $tmpdir;
}

sub slurp {
	my ($path) = @_;
	open my $fh, '<:raw', $path or die "$path: $!\n";
	local $/;
	return scalar(<$fh>) // '';
}

sub spew {
	my ($path, $text) = @_;
	open my $fh, '>:raw', $path or die "$path: $!\n";
	print $fh $text or die "$path: $!\n";
	close $fh or die "$path: $!\n";
	return $path;
}

# Below the range from which the kernel takes ports for connections, so that none takes it before the
# server does. A name of the network namespace marks it for as long as the recipe runs: others that run
# meanwhile get other ports.
sub free_port {
	my ($end) = slurp('/proc/sys/net/ipv4/ip_local_port_range') =~ /^(\d+)/;
	$end = 32768 if $end < 2 * $FIRST_PORT;
	for (1 .. 1000) {
		my $port = $FIRST_PORT + int rand($end - $FIRST_PORT);
		my $mark = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "\0tao-test-port-$port") or next;
		IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $port) or next;
		push @port_marks, $mark;
		return $port;
	}
	die "no free port\n";
}

# How many want each processor at this moment, one at least.
sub crowd {
	my ($runnable) = (eval { slurp('/proc/loadavg') } // '') =~ m{(\d+)/} or return 1;
	$processors ||= () = slurp('/proc/stat') =~ /^cpu\d/mg;
	return $runnable > $processors ? $runnable / $processors : 1;
}

sub wait_for {
	my ($sub, $seconds) = @_;
	my ($left, $last) = ($seconds // 10, time);
	while (1) {
		my $got = $sub->();
		return $got if $got || $left <= 0;
		sleep 0.02;
		my $now = time;
		$left -= ($now - $last) / crowd();
		$last = $now;
	}
}

# Its first thread may be a zombie while others still hold its descriptors.
sub ended {
	my ($pid, $seconds) = @_;
	return wait_for(sub {
		my @threads = glob "/proc/$pid/task/*";
		my $stat = eval { slurp("/proc/$pid/stat") } // return 1;
		return @threads <= 1 && $stat =~ /\) Z /;
	}, $seconds // 20);
}

# What stands in no braces of its own would be a word of the command.
sub options {
	my ($args) = @_;
	my %opt = ref $args->[-1] eq 'HASH' ? %{ pop @$args } : ();
	my @unknown = grep { !/^(?:dir|env|stdin|timeout|conf|init|log|passphrase|up)$/ } sort keys %opt;
	die "no such option: @unknown\n" if @unknown;
	return %opt;
}

# Forks and executes, in a process group of its own, standard streams being files.
sub start {
	my ($cmd, $in, $out, $err, %opt) = @_;
	my $pid = fork // die "fork: $!\n";
	return $pid if $pid;
	setpgrp;
	$SIG{$_} = 'DEFAULT' for qw(HUP INT PIPE TERM);
	my $fine = open(STDIN, '<', $in) && open(STDOUT, '>>', $out) && open(STDERR, '>>', $err);
	$fine &&= chdir $opt{dir} if defined $opt{dir};
	for my $name (keys %{ $opt{env} // {} }) {
		if (defined $opt{env}{$name}) { $ENV{$name} = $opt{env}{$name} } else { delete $ENV{$name} }
	}
	no warnings 'exec';
	exec { $cmd->[0] } @$cmd if $fine;
	print STDERR "cannot run $cmd->[0]: $!\n";
	POSIX::_exit(127);
}

sub exit_status { return $? & 127 ? 128 + ($? & 127) : $? >> 8 }

# Waits for a child; its status, or undef if it runs on after that time.
sub reap {
	my ($pid, $seconds) = @_;
	my $status;
	wait_for(sub {
		return 0 if waitpid($pid, WNOHANG) == 0;
		$status = exit_status();
		return 1;
	}, $seconds);
	return $status;
}

sub run {
	my %opt = options(\@_);
	my $base = tmpdir() . '/run' . $files++;
	spew("$base.in", $opt{stdin} // '');
	spew("$base.$_", '') for qw(out err);
	my $pid = start([@_], map({ "$base.$_" } qw(in out err)), %opt);
	my $status = reap($pid, $opt{timeout} // 60);
	my $timeout = !defined $status;
	if ($timeout) {
		kill 'KILL', -$pid;
		reap($pid, 10);
	}
	my %result = (status => $status // 124, out => slurp("$base.out"), err => slurp("$base.err"),
		timeout => $timeout);
	unlink map { "$base.$_" } qw(in out err);
	return \%result;
}

sub show {
	my ($cmd, $r) = @_;
	my $text = "command: @$cmd\n";
	$text .= $r->{timeout} ? "did not end in time\n" : "exit status: $r->{status}\n";
	$text .= "standard output:\n$r->{out}" if length $r->{out};
	$text .= "standard error:\n$r->{err}" if length $r->{err};
	Test::More::diag($text);
}

sub ok_run {
	my ($cmd, $name, $opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $r = run(@$cmd, $opt // {});
	Test::More::ok($r->{status} == 0, $name // "@$cmd") or show($cmd, $r);
	return $r;
}

sub fails_with {
	my ($cmd, $like, $name, $opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $r = run(@$cmd, $opt // {});
	my $clean = $r->{status} != 0 && $r->{status} < 128 && !$r->{timeout} && $r->{err} !~ /Sanitizer|runtime error:/;
	Test::More::ok($clean && $r->{err} =~ $like, $name // "refused: @$cmd")
	    or (show($cmd, $r), Test::More::diag("wanted on standard error: $like"));
	return $r;
}

sub spawn {
	my %opt = options(\@_);
	my $log = $opt{log} // tmpdir() . '/spawn' . $files++ . '.log';
	spew($log, '');
	my $pid = start([@_], $opt{stdin} // '/dev/null', $log, $log, %opt);
	my $process = bless { pid => $pid, logfile => $log }, 'TaoTest::Process';
	push @processes, $process;
	return $process;
}

# Runs a client that reads standard input and does not mind its end (s_client
# -ign_eof): says a text, waits for an answer, ends it; all that it wrote.
sub talk {
	my ($say, $answer, @cmd) = @_;
	my $client = spawn(@cmd, { stdin => spew(tmpdir() . '/talk' . $files++, $say) });
	$client->wait_for_line($answer, 30);
	$client->stop;
	return $client->log;
}

sub vectors {
	my ($name) = @_;
	my $dir = $ENV{TAO_VECTORS};
	Test::More::plan(skip_all => 'TAO_VECTORS is not set: no external test vectors') if !defined $dir;
	$dir .= "/$name" if defined $name;
	Test::More::plan(skip_all => "there is no directory $dir") if !-d $dir;
	return $dir;
}

sub found_none { return $_[0] =~ /^(?:Total found: 0\n)?\z/ }

sub need_programs {
	my @path = (split(/:/, $ENV{PATH}), qw(/usr/sbin /sbin));
	for my $name (@_) {
		next if grep { -x "$_/$name" } @path;
		Test::More::plan(skip_all => "$name is not installed");
	}
}

# What has libssl in the place of the program.
my %elsewhere = (
	apache2 => '/usr/lib/apache2/modules/mod_ssl.so',
	(map { $_ => '/usr/lib/dovecot/modules/libssl_iostream_openssl.so' } qw(dovecot imap imap-login)),
	lighttpd => '/usr/lib/lighttpd/mod_openssl.so', master => '/usr/lib/postfix/libpostfix-tls.so*',
	python3 => '/usr/lib/python3*/lib-dynload/_ssl*.so', rsyslogd => '/usr/lib/*/rsyslog/lmnsd_ossl.so',
);

sub other_openssl {
	my $major = sub { return run('ldd', $_[0])->{out} =~ /\b$_[1]\.so\.(\d+)/ ? $1 : undef };
	my $own = $major->(module_dir() . '/tao.so', 'libcrypto');
	for my $file (map { $_, glob($elsewhere{ (split m{/})[-1] } // '') } map { glob } @_) {
		my $its = $major->($file, 'libssl');
		return "$file has libssl.so.$its, and the modules are for OpenSSL $own" if defined $its && $its != $own;
	}
	return '';
}

sub need_same_openssl {
	my $why = other_openssl(@_);
	Test::More::plan(skip_all => $why) if $why;
}

sub only_with_all {
	Test::More::plan(skip_all => 'takes long: runtests --all runs it') if !$ENV{TAO_TEST_ALL};
}

sub preload_env {
	return {} if !config('TAO_ASAN');
	return { LD_PRELOAD => config('TAO_ASAN_RUNTIME'), ASAN_OPTIONS => config('TAO_ASAN_OPTIONS') };
}

sub start_host {
	my %opt = @_;
	my $dir = $opt{dir} // tmpdir() . '/host' . $files++;
	my $host = bless { dir => $dir, env => $opt{env} // {}, passfile => "$dir.pass" }, 'TaoTest::Host';
	spew($host->{passfile}, ($opt{passphrase} // 'correct horse battery staple') . "\n");
	chmod 0600, $host->{passfile};
	push @hosts, $host;
	my @pass = ('--passphrase-file', $host->{passfile});
	$host->{up} = 1; # from here on there may be something to take down
	for my $step ([ 'init', @pass, @{ $opt{init} // [] } ], [ 'up', @pass, @{ $opt{up} // [] } ]) {
		spew("$dir/taod.conf", $opt{conf}) if defined $opt{conf} && $step->[0] eq 'up';
		my $r = $host->tao(@$step);
		next if $r->{status} == 0;
		die "tao -d $dir @$step: exit status $r->{status}\n$r->{out}$r->{err}";
	}
	return $host;
}

END {
	if ($$ == $main_pid) {
		my $status = $?;
		local $@;
		eval { $_->down } for reverse @hosts;
		eval { $_->stop } for reverse @processes;
		if (defined $tmpdir && $ENV{TAO_KEEP}) {
			Test::More::diag("kept: $tmpdir");
		} elsif (defined $tmpdir) {
			remove_tree($tmpdir, { safe => 0, error => \my $ignored });
		}
		$? = $status;
	}
}

package TaoTest::Process;

sub pid { return $_[0]{pid} }
sub log { return TaoTest::slurp($_[0]{logfile}) }

sub alive {
	my ($self) = @_;
	return 0 if defined $self->{status};
	$self->{status} = TaoTest::reap($self->{pid}, 0);
	return !defined $self->{status};
}

# The first match in what it wrote ($1, or all that matched); undef if it ends
# or the time passes without.
sub wait_for_line {
	my ($self, $like, $seconds) = @_;
	my $found;
	TaoTest::wait_for(sub {
		my $ended = !$self->alive;
		$found = $1 // $& if $self->log =~ /$like/m;
		return $ended || defined $found;
	}, $seconds);
	return $found;
}

# Its status when it has ended within the time, else undef.
sub wait {
	my ($self, $seconds) = @_;
	$self->{status} //= TaoTest::reap($self->{pid}, $seconds // 10);
	return $self->{status};
}

# Asks it to end, and ends it after five seconds; its status.
sub stop {
	my ($self, $signal) = @_;
	if ($self->alive) {
		kill $signal // 'TERM', $self->{pid};
		if (!defined $self->wait(5)) {
			kill 'KILL', -$self->{pid};
			$self->wait(5);
		}
	}
	return $self->{status};
}

package TaoTest::Host;

sub dir { return $_[0]{dir} }
sub passfile { return $_[0]{passfile} }

# The command line of tao for this host, for ok_run() and spawn().
sub cmd {
	my ($self, @args) = @_;
	return (TaoTest::bin('tao'), '-d', $self->{dir}, @args);
}

sub tao {
	my ($self, @args) = @_;
	my %opt = TaoTest::options(\@args);
	$opt{env} = { %{ $self->{env} }, %{ $opt{env} // {} } };
	return TaoTest::run($self->cmd(@args), \%opt);
}

sub with_settings {
	my ($self, @lines) = @_;
	my $text = TaoTest::slurp("$self->{dir}/openssl.cnf");
	$text =~ s{^path = .*/tao\.so\n\K}{join '', map { "$_\n" } @lines}me or die "$self->{dir}/openssl.cnf has no section of tao_tls\n";
	return $text;
}

sub conf {
	my ($self, $name, @lines) = @_;
	return TaoTest::spew(TaoTest::tmpdir() . "/$name.cnf", $self->with_settings(@lines));
}

sub set {
	my ($self, @lines) = @_;
	return TaoTest::spew("$self->{dir}/openssl.cnf", $self->with_settings(@lines));
}

sub down {
	my ($self) = @_;
	# The recipe may have stopped it and started it again by itself.
	return if !$self->{up} && !-e "$self->{dir}/run/taod.pid";
	$self->{up} = 0;
	return $self->tao('down');
}

1;
