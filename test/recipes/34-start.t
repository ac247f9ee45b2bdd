# What a program is told by that changes its user, or its arguments, right after its start: the host
# sees the execve() itself (host/hold.h). The host is late here on purpose: the connection that asks
# Host.Run stays open over execve(), so that it has no reason to look before the program asks for
# something. t_hold.c has what else happens to a process that is traced.
use strict;
use warnings;

use Test::More;
use TaoTest;
use TaoRaw;

plan skip_all => 'only root changes its user' if $<;
my $NOBODY = 65534;
my $ENOTRUN = 15;

my $dir = tmpdir();
my $raw = tool('rawclient');
my $life = tool('life');
my $tao = bin('tao');
my @nobody = ('/usr/bin/setpriv', "--reuid=$NOBODY", "--regid=$NOBODY", '--clear-groups');
plan skip_all => 'setpriv is not there' if !-x $nobody[0];
chmod 0755, $dir;
my $host = start_host();
my $socket = $host->dir . '/run/tao.sock';
raw_use($host);
plan skip_all => 'another user cannot reach the build tree'
    if run(@nobody, $raw, $socket, { stdin => "connect\n" })->{out} !~ /^ok/;

# What tao run puts into the environment; another program inside may not have all of it.
my %settings = (TAO_SOCKET => $socket, OPENSSL_CONF => $host->dir . '/openssl.cnf', OPENSSL_MODULES => module_dir());

# What asks to be that program.
sub asks {
	my ($program, @args) = @_;
	return ('connect', "fd $program", call('Host.Run', field(1, $program), map { field(2, $_) } $program, @args));
}

# Registers {program} and then has these commands done: one of them an exec, what is behind it is the
# program's standard input. {first}: a command before all; {env}, {as}: of all. The name in the
# answer, then all lines.
sub late {
	my ($of, @then) = @_;
	my $r = run(@{ $of->{as} // [] }, $raw, $socket, { env => $of->{env}, timeout => 60,
		stdin => join("\n", $of->{first} // (), asks(@{ $of->{program} }), @then) . "\n" });
	my @lines = split /\n/, $r->{out};
	my ($answer) = grep { /^ok Host\.Run / } @lines or diag($r->{out}, $r->{err});
	return ($answer ? name_of($answer) : 'no name', @lines);
}
my @raw = ($raw, $socket);
my $execute = "exec @raw";

# --- an instance is what it was started as

my @whoami = ('connect', 'identify');
my ($name, @lines) = late({ program => \@raw }, $execute, @whoami);
like($name, qr/\.Measured\(\[\w+\], \[\w+\], 0\)\.PolicyKey/, 'a program that root registers');
is(name_of($lines[-1]), $name, 'is itself');
@lines = late({ program => \@raw }, $execute, "setuid $NOBODY", @whoami);
is(name_of($lines[-1]), $name, 'also when it has changed its user before the host had a reason to look');
@lines = late({ program => \@raw }, $execute, "setuid $NOBODY", 'fork connect; identify');
is(name_of($lines[-1]), $name, 'and its child');
@lines = late({ program => \@raw }, $execute, "fork setuid $NOBODY; connect; identify");
is(name_of($lines[-1]), $name, 'and a child that does so itself');

# --- scripts: an interpreter is its arguments

my $script = <<"EOS";
use POSIX;
POSIX::setgid($NOBODY);
POSIX::setuid($NOBODY) or die;
system '$tao', 'name';
EOS
spew("$dir/drop.pl", $script);
spew("$dir/drop", "#!/usr/bin/perl\n$script");
chmod 0755, "$dir/drop", "$dir/drop.pl";
($name, @lines) = late({ env => \%settings, program => [ '/usr/bin/perl', "$dir/drop.pl" ] }, "exec /usr/bin/perl $dir/drop.pl");
is($lines[-1], $name, 'tao speaks for a script that has changed its user');
($name, @lines) = late({ env => \%settings, program => ["$dir/drop"] }, "exec $dir/drop");
is($lines[-1], $name, 'and for one that starts with #!');
($name, @lines) = late({ env => \%settings, program => [ '/usr/bin/perl', "$dir/other.pl" ] }, "exec /usr/bin/perl $dir/drop.pl");
unlike($lines[-1], qr/^key/, 'not for another one');

# --- keys

ok_run([ $host->cmd('key', 'new', 'mine', '--for', $life) ], 'a key');
my @uses = ('tao:mine', "setuid:$NOBODY", qw(load sign fork sign end));
($name, @lines) = late({ env => \%settings, program => [ $life, @uses ] }, "exec $life @uses");
is($lines[-1], 'done 0', 'a program that has changed its user uses its key') or diag(join "\n", @lines);
my $good = grep { $host->tao('run', '--quiet', '--', $life, @uses)->{out} =~ /^done 0$/m } 1 .. 10;
is($good, 10, 'so does each that tao run starts');

# --- attacks

my $theirs = qr/, $NOBODY\)\.PolicyKey/;
sub not_own {
	my ($what, @then) = @_;
	my ($own, @l) = late({ program => \@raw }, @then);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $got = $l[-1] =~ /^ok Tao\.Prove/ ? name_of($l[-1]) : $l[-1];
	return like($got, $theirs, $what) && isnt($got, $own, "$what: another name");
}
my $as = "@nobody @raw";
not_own('registered, and executed as another user', "setuid $NOBODY", $execute, @whoami);
not_own('executed by another program as another user', "exec $as", @whoami);
not_own('what has changed its user executes the file again', $execute, "setuid $NOBODY", $execute, @whoami);
not_own('and in a child', $execute, "fork setuid $NOBODY; exec @raw connect identify");
not_own('with the first still there', $execute, "fork exec $as connect identify");

# --- where nothing is seen, the host looks from outside

sub from_outside {
	my ($what, $before) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($of, @then) = $before->();
	my ($own, @l) = late($of, @then, $execute, @whoami);
	is(name_of($l[-1]), $own, "$what: a program that keeps its user is looked at from outside");
	($of, @then) = $before->();
	($own, @l) = late($of, @then, $execute, "setuid $NOBODY", @whoami);
	return isnt($l[-1] =~ /^ok Tao\.Prove/ ? name_of($l[-1]) : $l[-1], $own, 'one that has changed it is not recognised');
}

sub children { return map { split ' ', slurp($_) } glob "/proc/$_[0]/task/*/children" }
sub measurer {
	my ($keeper) = slurp($host->dir . '/run/taod.pid') =~ /(\d+)/;
	my $pid;
	wait_for(sub { ($pid) = map { children($_) } children($keeper) });
	return $pid;
}

from_outside('with a debugger', sub { return { program => \@raw, first => 'traced' } });
SKIP: {
	skip 'this kernel does not tell children', 3 if !glob "/proc/$$/task/*/children";
	from_outside('with its measurer killed', sub { return ({ program => \@raw }, 'kill ' . measurer(), 'sleep 200') });
	my ($own, @l) = late({ program => \@raw }, $execute, "setuid $NOBODY", @whoami);
	is(name_of($l[-1]), $own, 'the next measurer sees as the one before');
}

# --- who is traced, and for how long

sub traced { return grep { /^(?:traced|free|failed)$/ } late($_[0], 'tracer', $execute, 'tracer') }
is_deeply([ traced({ program => \@raw }) ], [qw(traced free)], 'root\'s process is traced up to its execve()');
is_deeply([ traced({ program => \@raw, as => \@nobody }) ], [qw(free free)], 'another user\'s is not');
is($host->tao('run', '--quiet', '--prepare', '--', '/bin/true')->{status}, 0, 'what executes nothing ends as ever');

done_testing();
