# Scripts: the installed tao, started by a program itself, speaks for that
# program; started by anything else it does not.
use strict;
use warnings;
use Test::More;
use TaoTest;

my $host = start_host();
my $tao = bin('tao');
sub script { return [$host->cmd('run', '--quiet', '--', @_)] }

my $name = ok_run(script('sh', '-c', "$tao name"), 'a script asks its name')->{out};
like($name, qr/^key\(.*\.Measured\(.*\)\.PolicyKey\(/, 'and is told the program\'s');
my ($exe) = $name =~ /Measured\(\[(\w+)/;
my ($sum) = run('sha256sum', '/bin/sh')->{out} =~ /^(\w+)/;
is($exe, $sum, 'which is the shell\'s, not tao\'s');
is(ok_run(script('sh', '-c', "echo secret | $tao seal | $tao unseal"), 'a script seals and unseals')->{out},
	"secret\n", 'its data');

fails_with(script('sh', '-c', "perl -e 'exit(system(q($tao), q(name)) >> 8)'"), qr/tao run.*another executable/,
	'not for a program between the two');
my $there = tmpdir() . '/there';
my $copy = ok_run(script('sh', '-c', "mkdir -p $there/bin $there/lib && cp $tao $there/bin && cp -r @{[bldtop()]}/lib/tao $there/lib && $there/bin/tao name"),
	'a copy of it')->{out};
isnt($copy, $name, 'speaks for itself');
fails_with([ $host->cmd('name') ], qr/tao run/, 'nor outside tao run');

done_testing();
