# What happens to a process that has a key of the host: forks, threads, other users, another root
# directory, no environment, closed and reused descriptors, contexts, and its end. The process
# is test/tool/life.c; the same is done with a key that stays in the host, with one that comes to
# the program, and, where that tells something, with one from a file.
use strict;
use warnings;

use Test::More;
use TaoTest;

my $dir = tmpdir();
my $life = tool('life');
my $host = start_host(conf => "timeout = 60000\n"); # how long a busy machine takes is not asked here
my $conf = $host->dir . '/openssl.cnf';
my $empty = "$dir/empty";
my $modules = module_dir();
my ($major) = run('ldd', $life)->{out} =~ /libcrypto\.so\.(\d+)/;
mkdir $empty;
ok_run([ $host->cmd(qw(key new host --for), $life) ], 'a key that stays in the host');
ok_run([ $host->cmd(qw(key new program --custody program --for), $life) ], 'a key that comes to the program');
my %stub = map { $_ => $host->dir . "/keys/$>/$_.pem" } qw(host program);
my %key = (host => 'tao:host', program => 'tao:program', stub => $stub{host}, file => "$dir/file.key");
run(qw(openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out), $key{file})->{status} == 0
    or BAIL_OUT('openssl genpkey');

# What a run of these steps printed. A daemon goes on when what was started has ended.
sub steps {
	my ($key, @steps) = @_;
	my @run = $key eq 'file' ? () : $host->cmd(qw(run --quiet --));
	my $p = spawn(@run, $life, $key{$key}, @steps);
	my $ended = wait_for(sub { return $p->log =~ /^done \d+$/m || (!$p->alive && !grep { $_ eq 'daemon' } @steps) }, 60);
	$p->wait(30) if !grep { $_ eq 'daemon' } @steps;
	return { out => $p->log, status => $p->{status}, ended => $ended };
}

# All steps succeed, and there is an end to it.
sub fine {
	my ($name, $key, @steps) = @_;
	my $r = steps($key, @steps);
	my $good = $r->{out} =~ /^done 0$/m && $r->{out} !~ /failed:|Sanitizer|runtime error:/ && ($r->{status} // 0) == 0;
	ok($good, "$name: $key") or diag("@steps: ", $r->{status} // 'went on', "\n$r->{out}");
	return $r->{out};
}

# --- every pair of what may happen, before the key is read, before and after its first use

# What is done, and then at the end.
my %events = (
	nothing => [ [], [] ], clearenv => [ [qw(init clearenv)], [] ], close => [ ['close'], [] ],
	reuse => [ ['reuse'], ['unharmed'] ], daemon => [ ['daemon'], [] ], threads => [ ['threads:8'], [] ],
	fork => [ ['fork'], ['end'] ], 'fork, quick end' => [ ['fork'], ['end:quick'] ],
	'fork, clean end' => [ ['fork'], ['end:cleanup'] ],
	dlclose => [ [qw(provider:tao unload)], [] ], modules => [ [qw(init modules)], [] ],
	$> == 0 ? (setuid => [ [qw(ask setuid:65534)], [] ], chroot => [ [ 'init', "chroot:$empty" ], [] ]) : (),
);
diag('setuid and chroot: only root may') if $> != 0;

# Which steps succeed: how the host is reached, and whether it knows who asks.
sub predict {
	my ($key, @steps) = @_;
	my %s = (door => 1, connected => 0, path => 1, known => 1, private => 0);
	my @good;
	my $reach = sub { return $s{connected} || $s{door} || ($s{path} && $s{known}) };
	for my $step (map { s/:.*//r } @steps) {
		$s{connected} = 0 if $step =~ /^(?:close|reuse|fork|daemon)$/;
		$s{door} = 0 if $step =~ /^(?:close|reuse)$/;
		$s{known} = 0 if $step eq 'daemon';
		$s{path} = 0 if $step eq 'chroot';
		if ($step eq 'load') {
			$s{door} ||= $s{path} && $s{known};
			push @good, $key eq 'stub' || $reach->() || 0;
			return @good if !$good[-1];
			# A name is asked for, and comes with the private half if that is the program's.
			@s{qw(connected known private)} = (1, 1, $key eq 'program') if $key ne 'stub';
		} elsif ($step eq 'ask') {
			@s{qw(connected known)} = (1, 1) if $reach->();
		} elsif ($step eq 'sign' || $step eq 'threads') {
			my $good = $s{private} || $reach->() || 0;
			push @good, $good;
			next if !$good || $s{private};
			# Who proved itself is remembered, but for the first process, which is no member.
			@s{qw(connected known)} = (1, 1);
			$s{private} = 1 if $key eq 'program';
		}
	}
	return @good;
}

my $reasons = qr/the Tao host is not running|not started with 'tao run'/;

sub one_of_matrix {
	my ($key, @three) = @_;
	my @begin = map { $events{$_}[0] } @three;
	my @end = map { @{ $events{$_}[1] } } reverse @three;
	my @steps = (@{ $begin[0] }, 'load', @{ $begin[1] }, 'sign', @{ $begin[2] }, 'sign');
	my @want = predict($key, @steps);
	my $r = steps($key, @steps, @end);
	my @got = map { $_ eq 'ok' ? 1 : 0 } $r->{out} =~ /^(?:load|sign|threads:8) (ok|failed)/mg;
	my $fine = $r->{ended} && "@got[0 .. $#want]" eq "@want" && $r->{out} !~ /^unharmed failed|Sanitizer|runtime error:/m;
	for my $line ($r->{out} =~ /^((?:load|sign|threads:8) failed:.*)$/mg) {
		$fine = 0 if $line !~ $reasons && $want[0]; # nothing is signed without a key
	}
	return 1 if $fine;
	diag("$key: @steps @end: expected @want\n$r->{out}");
	return 0;
}

# What was not read before the root directory changed is not there; who is another user becomes no
# third; nobody waits for a daemon.
sub possible {
	my ($key, @three) = @_;
	my %n;
	$n{$_}++ for @three;
	return $three[0] ne 'threads' && !($key eq 'stub' && $three[0] eq 'chroot') &&
	    "@three" !~ /fork.*daemon|reuse.*close/ && !grep { ($n{$_} // 0) > 1 } qw(daemon setuid reuse);
}

my @all = sort keys %events;
diag('each pair with each key, at each place: runtests --all') if !$ENV{TAO_TEST_ALL};
for my $key (qw(host program stub)) {
	my ($good, $n, %done) = (0, 0);
	for my $one (@all) {
		for my $other (@all) {
			my @places = ([ 'nothing', $one, $other ], [ $one, 'nothing', $other ], [ $one, $other, 'nothing' ]);
			@places = grep { $key eq 'host' && $_->[0] eq 'nothing' || 2 == grep { $_ eq 'nothing' } @$_ } @places
			    if !$ENV{TAO_TEST_ALL};
			for (grep { possible($key, @$_) && !$done{"@$_"}++ } @places) {
				$n++;
				$good += one_of_matrix($key, @$_);
			}
		}
	}
	is($good, $n, "$key: $n ways through a process' life");
}

# --- what a child does is nothing to its parent

for my $key (qw(host program)) {
	for my $end ('end', 'end:quick', 'end:cleanup', 'end:kill') {
		my $out = fine("a child ends first, by $end", $key, qw(load sign sockets fork sign threads:4 free), $end, qw(sockets sign sockets));
		my @sockets = $out =~ /^sockets (.*)$/mg;
		is("$sockets[1]\n$sockets[2]", "$sockets[0]\n$sockets[0]", 'its parent has the connection that it had');
		fine("it reads no key, and ends by $end", $key, qw(load sign fork), $end, qw(sign fork fork), $end, $end, qw(sign));
	}
	# What another thread locked in libcrypto stays locked in a child: that is so with keys from files, too.
	fine('forks while threads sign', $key, qw(load busy:6), (qw(fork end:quick fork end:kill)) x 8, qw(calm sign));
	fine('a child of a child of a child', $key, qw(load fork sign fork sign fork sign end sign end sign end sign));
	fine('keys of parent and child', $key, qw(load fork free load sign end sign free load sign));
	fine('executed anew', $key, qw(load sign exec load sign fork exec load sign));
	fine('64 threads, one key', $key, qw(load threads:64 threads:64 sign));
	fine('64 threads, none of which used it before', $key, qw(load threads:64));
	my $out = fine('no thread and no descriptor stays', $key, qw(load tasks fds threads:16 free tasks), 'fds');
	my @tasks = $out =~ /^tasks (\d+)$/mg;
	is("@tasks", '1 1', 'of threads');
	my @fds = $out =~ /^fds (\d+)$/mg;
	cmp_ok($fds[1], '<=', $fds[0] + 16, 'at most one connection for each thread that signed at once');
}

# A host that was asked nothing in between knows of no child.
sub operations { return [ $host->tao('--json', 'ps')->{out} =~ /"operations": ?(\d+)/g ] }
{
	my $go = "$dir/go";
	my $p = spawn($host->cmd(qw(run --quiet --)), $life, 'tao:host', qw(load sign fork wait:), "wait:$go", qw(end sign));
	$p->stop;
	$p = spawn($host->cmd(qw(run --quiet --)), $life, 'tao:host', qw(load sign), "wait:$go.1", qw(fork end fork end:cleanup), "wait:$go.2", 'sign');
	$p->wait_for_line(qr/^waiting$/m, 20);
	my $before = operations();
	spew("$go.1", '');
	wait_for(sub { return 2 == (() = $p->log =~ /^waiting$/mg) }, 20);
	is_deeply(operations(), $before, 'children that use nothing tell the host nothing');
	spew("$go.2", '');
	is($p->wait(20), 0, 'and it goes on') or diag($p->log);
}

# --- the memory, on the way: of all that came of it, with what is on their command line as the control

sub pids_with {
	my ($text) = @_;
	return grep { (readlink("/proc/$_/exe") // '') eq $life && index(eval { slurp("/proc/$_/cmdline") } // '', $text) >= 0 }
	    map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# How many of the processes hold the private key when the step `scan` is reached, and how many there are.
my $scans = 0;
sub holders {
	my ($key, @steps) = @_;
	my $go = "$dir/scan" . $scans++;
	my @run = $key eq 'file' ? () : $host->cmd(qw(run --quiet --));
	my $p = spawn(@run, $life, $key{$key}, map { $_ eq 'scan' ? "wait:$go" : $_ } @steps);
	wait_for(sub { $p->log =~ /^waiting$/m }, 30);
	my @pids = pids_with($go);
	my @what = $key eq 'file' ? ($key{file}, '-', '-') : ($host->dir . '/host/root.key', $host->passfile, $stub{$key} // $stub{host});
	my $r = @pids ? run(tool('keyscan'), @what, $go, @pids) : { out => 'no process', err => '' };
	my @of = $r->{out} =~ /^process .* control [1-9].*$/mg;
	spew($go, '');
	kill 'KILL', @pids if grep { /^chroot/ } @steps; # who sees no file there
	wait_for(sub { !pids_with($go) }, 30);
	$p->wait(30);
	my $failed = $p->log =~ /failed:/ ? $p->log : '';
	my $held = grep { /\) [1-9]\d* times/ } @of;
	diag("$key: @steps: $r->{out}$r->{err}$failed") if @of != @pids || $failed;
	return $failed || @of != @pids ? 'could not look' : "$held of " . @pids;
}

SKIP: {
	skip 'the sanitizers\' shadow memory cannot be scanned', 1 if config('TAO_ASAN');
	my @dlclose = ("ctx:$modules", qw(provider:default provider:tao load sign free unload unload drop scan));
	my @root = $> == 0 ? ([ qw(ask setuid:65534 sign scan) ], [ 'init', 'load', "chroot:$empty", qw(sign scan) ]) : ();
	my @one = ([qw(load scan)], [qw(load sign scan)], [qw(load threads:64 scan)], [qw(load busy:8 scan calm)], [qw(load sign clearenv sign scan)],
		[qw(load sign daemon scan)], [qw(load sign exec load sign scan)], [qw(load sign modules sign scan)], [qw(load sign free scan)],
		[qw(load sign cleanup scan)], \@dlclose, [ "conf:$conf", qw(load sign scan free drop) ], [qw(child load sign scan)]);
	my @four = ([qw(load sign fork sign fork sign fork threads:4 sign scan end end end)], [qw(load busy:6 fork fork fork scan end:quick end:quick end:quick calm)],
		[qw(load fork fork fork load sign scan end end end)]);
	is(holders('host', @$_), '0 of 1', "host: none at @$_") for @one, map { $_->[0] eq 'ask' ? [ 'load', @$_ ] : $_ } @root;
	is(holders('host', @$_), '0 of 4', "host: none at @$_") for @four;
	is(holders('stub', qw(load sign fork threads:4 scan end)), '0 of 2', 'from a file with the stub: none');
	# The control: what the same looking finds where there is one, and no more where it was freed.
	is(holders('program', @$_), '1 of 1', "program: it has it at @$_") for [qw(load sign scan)], [qw(load busy:8 scan calm)], [qw(load sign exec load sign scan)];
	is(holders('program', qw(load sign fork fork fork scan end end end)), '4 of 4', 'program: and so have children');
	is(holders('program', @$_), '0 of 1', "program: and no longer at @$_") for [qw(load sign free scan)], \@dlclose;
	is(holders('file', qw(load busy:6 scan calm)), '1 of 1', 'file: it has it');
	is(holders('file', qw(load sign fork fork fork scan end end end)), '4 of 4', 'file: and so have children');
	my @pairs = map { my $one = $_; map { [ $one, $_ ] } grep { !/daemon|nothing/ } @all } grep { !/daemon/ } @all;
	@pairs = () if !$ENV{TAO_TEST_ALL};
	my @bad;
	for (grep { possible('host', 'nothing', @$_) && "@$_" !~ /chroot chroot|setuid chroot|chroot reuse/ } @pairs) {
		my ($one, $other) = @$_;
		my @steps = ('load', 'sign', @{ $events{$one}[0] }, 'sign', @{ $events{$other}[0] });
		my $good = !grep { !$_ } predict('host', @steps, 'sign');
		my $got = holders('host', $good ? (@steps, 'sign') : @steps[0, 1], 'scan', @{ $events{$other}[1] }, @{ $events{$one}[1] });
		push @bad, "@$_: $got" if $got !~ /^0 of [1-9]/;
	}
	is(join("\n", @bad), '', 'host: none after each pair') if @pairs;
}

# --- the end of OpenSSL, before and after the key's

for my $key (qw(host program file)) {
	fine('freed after OPENSSL_cleanup()', $key, qw(load cleanup free));
	fine('asked for its private half before it, and after it', $key, qw(load private cleanup private free));
	fine('asked for that only after it', $key, qw(load cleanup private free));
	fine('used, then freed after it', $key, qw(load sign cleanup free));
	fine('never freed', $key, qw(load sign cleanup));
	fine('used at exit', $key, qw(load atexit sign));
	fine('modules are unloaded', $key, qw(load sign modules sign free load sign cleanup free));
	fine('a child cleans up, then its parent', $key, qw(load sign fork sign cleanup free end sign cleanup free));
}

# --- contexts

for my $key (qw(host program)) {
	fine('a context of its own, by hand', $key, "ctx:$modules", qw(provider:default provider:tao load sign threads:4 unload),
		$major < 4 ? 'unload' : (), qw(sign free drop)); # OpenSSL 4 has no digest without a provider
	fine('a context of its own, by configuration', $key, "conf:$conf", qw(load sign fork sign end threads:4 free drop));
	fine('one after the other', $key, "conf:$conf", qw(load sign free drop), "conf:$conf", qw(load sign free drop load sign));
	fine('the configuration twice in a process', $key, qw(load sign), "conf:$conf", qw(load sign fork load sign end sign free));
	fine('a child context', $key, qw(child load sign threads:4 fork sign end sign free));
	fine('loaded twice, unloaded once', $key, qw(provider:tao provider:tao load unload sign threads:4 fork sign end));
	fine('unloaded twice', $key, qw(provider:tao provider:tao load sign unload unload sign free load sign));
	fine('unloaded by a child', $key, qw(provider:tao load sign fork unload free end:cleanup sign));
}
{
	# The same module under two names: two providers, one file.
	my $text = slurp($conf);
	my ($section) = $text =~ /^(\[tao_sect\]\n.*?\n)(?=\n)/ms;
	$text =~ s/^tao = tao_sect$/tao = tao_sect\nsecond = second_sect/m;
	my $twice = spew("$dir/twice.cnf", "$text\n" . $section =~ s/tao_sect/second_sect/r);
	for my $key (qw(host program)) {
		fine('two providers of one module', $key, "conf:$twice", qw(load sign threads:4 fork sign end free drop));
	}
}
{
	my $r = run($life, $stub{host}, qw(mapped), ("ctx:$modules", qw(provider:default provider:tao load free unload unload drop mapped)) x 3,
		{ env => { %{ preload_env() }, OPENSSL_CONF => '/dev/null' } });
	my @mapped = $r->{out} =~ /^mapped (\d)$/mg;
	is("$r->{status}: @mapped", '0: 0 0 0 0', 'with its context the module leaves the process') or diag($r->{out}, $r->{err});
	# With the TLS module, which is in the same file, it stays: contexts may have been hooked.
	my $alone = spew("$dir/alone.cnf", slurp($conf) =~ s/^tao_tls = .*\n//mr);
	# OpenSSL 4 unloads no module then.
	for ([ $alone, $major < 4 ? '1 0' : '1 1' ], [ $conf, '1 1' ]) {
		my ($with, $expect) = @$_;
		$r = run($life, $stub{host}, qw(init mapped modules cleanup mapped), { env => { %{ preload_env() }, OPENSSL_CONF => $with } });
		@mapped = $r->{out} =~ /^mapped (\d)$/mg;
		is("$r->{status}: @mapped", "0: $expect", 'at the end of OpenSSL, ' . ($with eq $conf ? 'with' : 'without') . ' the TLS module')
		    or diag($r->{out}, $r->{err});
	}
}

{
	# And as it was named before: the TLS module's other name.
	my $named = spew("$dir/named.cnf", slurp($conf) =~ s/^(path = .*)tao\.so$/$1tao_tls.so/mr);
	isnt(slurp($named), slurp($conf), 'the TLS module has two names');
	for my $name ($named, $conf) {
		my $r = run($host->cmd('run', '--quiet', '--openssl-conf', $name, '--'), $life, 'tao:host',
			qw(init load sign modules sign mapped));
		like($r->{out}, qr/^sign ok\n(?:.*\n)*?sign ok\n(?:.*\n)*?mapped 1$/m, 'by either it is loaded, and stays')
		    or diag($r->{out}, $r->{err});
	}
}

# --- who does not use it does not pay

my @fds;
for my $with (0, 1) {
	my $r = run($life, $key{file}, qw(load sign threads:4 tasks sockets fds),
		{ env => { %{ preload_env() }, OPENSSL_CONF => $with ? $conf : '/dev/null' } });
	is($r->{status}, 0, 'a program with a key from a file, ' . ($with ? 'with the Tao in its configuration' : 'without'));
	like($r->{out}, qr/^tasks 1$/m, 'no thread');
	like($r->{out}, qr/^sockets$/m, 'no connection');
	push @fds, $r->{out} =~ /^fds (\d+)$/m;
}
is($fds[1], $fds[0], 'no descriptor');
SKIP: {
	skip 'strace is not installed', 3 if !grep { -x "$_/strace" } split /:/, $ENV{PATH};
	skip 'the sanitizers\' runtime makes calls of its own', 3 if config('TAO_ASAN');
	my $trace = "$dir/trace";
	my $none = run(qw(strace -o /dev/null true));
	skip "tracing is not permitted here: $none->{err}", 3 if $none->{status} != 0 && $none->{err} =~ /ptrace.*(?:Operation not permitted|Function not implemented)/i;
	ok_run([ 'strace', '-f', '-o', $trace, $life, $key{file}, qw(load sign) ], 'a process that is traced', { env => { OPENSSL_CONF => $conf } });
	my $calls = -e $trace ? slurp($trace) : '';
	like($calls, qr/"[^"]*\/tao\.so"/, 'the module was loaded');
	unlike($calls, qr/\b(?:socket|connect|socketpair|clone3?|prctl\(PR_SET_DUMPABLE)\(/, 'and did nothing');
}

# --- settings, in a configuration of the program's own

sub setting {
	my ($section, $name, $value) = @_;
	my $text = slurp($conf);
	$text =~ s/^\Q$name\E = .*\n//mg;
	$text =~ s/^(\[\Q$section\E\]\n)/$1$name = $value\n/m or BAIL_OUT("no section $section");
	return spew("$dir/setting.cnf", $text);
}
sub with_setting {
	my ($section, $name, $value, $like, @steps) = @_;
	my $file = setting($section, $name, $value);
	my $r = run($host->cmd('run', '--quiet', '--openssl-conf', $file, '--'), $life, 'tao:host', @steps);
	like($r->{out}, $like, "$name = $value: @steps") or diag($r->{err});
}
with_setting('tao_sect', undumpable => 'yes', qr/^dumpable ok/m, qw(load dumpable));
with_setting('tao_sect', undumpable => 'yes', qr/^dumpable ok/m, qw(load fork sign dumpable end));
with_setting('tao_sect', undumpable => 'no', qr/^dumpable failed/m, qw(load sign dumpable));
with_setting('tao_sect', undumpable => 'perhaps', qr/^load failed:.*say yes or no/m, qw(load));
with_setting('tao_sect', timeout => 5000, qr/^done 0/m, qw(load sign));
with_setting('tao_sect', timeout => 'never', qr/^load failed:.*setting of the Tao provider is wrong.*timeout = never/m, qw(load));
with_setting('tao_sect', socket => "$dir/absent", qr/^close ok\nload failed:.*no Tao host answers on \Q$dir\E\/absent/m, qw(close load));
with_setting('tao_sect', socket => "$dir/absent", qr/^done 0/m, qw(load sign)); # by its door
with_setting('tao_tls_sect', renew => $_, qr/^done 0/m, qw(load sign)) for 0, 1, 86400;
with_setting('tao_tls_sect', renew => 'often', qr/^done 0/m, qw(load sign)); # the module is left out, the provider not

done_testing();
