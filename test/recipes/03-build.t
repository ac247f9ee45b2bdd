# The build itself: Configure's answers, what the module exports, hardening,
# installing and uninstalling, and the packages that scripts would install.
use strict;
use warnings;

use Test::More;
use TaoTest;

my $configure = srctop() . '/Configure';
my $dir = tmpdir();
mkdir "$dir/tree" or die;

sub configure {
	my ($args, %opt) = @_;
	return run($^X, $configure, @$args, { dir => "$dir/tree", %opt });
}

# --- Configure

my $r = configure(['--help']);
ok($r->{status} == 0 && $r->{out} =~ /--prefix=DIR/, 'Configure --help');
$r = configure(['--enable-everything']);
ok($r->{status} != 0 && $r->{err} =~ /unknown option '--enable-everything'/, 'and unknown ones');

$r = configure([], env => { PATH => "$dir/none" });
my @named = $r->{err} =~ /Debian package (.+)$/mg;
isnt($r->{status}, 0, 'Configure fails when programs are missing');
is_deeply(\@named, [ 'gcc libc6-dev', 'pkg-config', 'make', 'protobuf-c-compiler', 'perl' ],
	'and names the packages of all of them at once');
$r = configure([], env => { PKG_CONFIG_LIBDIR => "$dir/none", PKG_CONFIG_PATH => undef });
push @named, my @libs = $r->{err} =~ /Debian package (.+)$/mg;
is_deeply(\@libs, [ qw(libssl-dev libssl-dev libprotobuf-c-dev libseccomp-dev) ], 'libraries too');
ok(!-e "$dir/tree/Makefile", 'nothing is written then');

my %listed = map { $_ => 1 } split ' ', run('sh', '-c',
	'. "$0/test/lib/packages.sh"; tao_list_packages "$0/packages" quickstart', srctop())->{out};
my @unlisted = grep { !$listed{$_} } map { split ' ' } @named;
is("@unlisted", '', 'quickstart installs all that Configure wants');

$r = configure([ '--prefix=/opt/x', '--localstatedir=/srv/state' ]);
is($r->{status}, 0, 'Configure in another directory') or diag($r->{err});
unlike($r->{out}, qr/own modules/, 'whose modules are where OpenSSL looks');
like(run($configure, '--modulesdir=/nowhere', { dir => tmpdir() })->{out}, qr{look there for OpenSSL's own modules too: link those of /},
	'and else it says what is missing there');
my $header = slurp("$dir/tree/config.h");
like($header, qr{^#define TAO_BINDIR "/opt/x/bin"$}m, 'config.h follows --prefix');
like($header, qr{^#define TAO_SYSCONFDIR "/opt/x/etc"$}m, 'and sysconfdir does');
like($header, qr{^#define TAO_LOCALSTATEDIR "/srv/state"$}m, 'and --localstatedir is taken');

# --- what was built

$r = run('nm', '-D', '--defined-only', module_dir() . '/tao.so');
my @exports = map { (split)[2] } grep { !/ (?:__asan|__ubsan|__odr_asan)/ } split /\n/, $r->{out};
is("@exports", 'OPENSSL_finish OPENSSL_init OSSL_provider_init', 'tao.so exports its entries and nothing else');
is(readlink(module_dir() . '/tao_tls.so'), 'tao.so', 'and is the TLS module as well');
unlike(run('readelf', '-d', module_dir() . '/tao.so')->{out}, qr/NEEDED.*libssl/, 'it does not load libssl');
$r = run('nm', '-D', '--defined-only', bldtop() . '/lib/tao/commands.so');
is(join(' ', map { (split)[2] } grep { !/ (?:__asan|__ubsan|__odr_asan)/ } split /\n/, $r->{out}), 'tao_commands',
	'so does what tao(1) loads');
for my $file (glob(bldtop() . '/bin/*'), bldtop() . '/lib/tao/commands.so', glob(module_dir() . '/*.so')) {
	my $elf = run('readelf', '-W', '-l', '-d', '-h', $file)->{out};
	my @lacks;
	push @lacks, 'position independent' if $elf !~ /Type:\s+DYN/;
	push @lacks, 'RELRO' if $elf !~ /GNU_RELRO/;
	push @lacks, 'BIND_NOW' if $elf !~ /BIND_NOW|\bNOW\b/;
	push @lacks, 'no executable stack' if $elf !~ /GNU_STACK.*\sRW\s/;
	# A provider's owner may unload it.
	push @lacks, 'the right fate at dlclose' if $elf =~ /NODELETE/;
	is("@lacks", '', "hardened: $file" =~ s{: .*/}{: }r);
}

# --- install, uninstall

sub files {
	my ($top) = @_;
	return [ sort split /\n/, run('find', $top, '!', '-type', 'd', '-printf', '%P\n')->{out} ];
}

sub make_in_tree {
	my ($goal) = @_;
	my @make = ('make', '-s', '-C', bldtop(), "DESTDIR=$dir/dest", $goal);
	return ok_run(\@make, "make $goal", { timeout => 600 });
}

make_in_tree('install');
my $installed = files("$dir/dest");
cmp_ok(scalar @$installed, '>', 3, 'something is installed');
my ($bin) = grep { m{/bin/tao$} } @$installed;
ok(defined $bin && -x "$dir/dest/$bin", 'tao among it');
my ($tls_module) = grep { m{/tao_tls\.so$} } @$installed;
is($tls_module && readlink("$dir/dest/$tls_module"), 'tao.so', 'and the TLS module, in the same file as the provider');
my ($conf) = grep { m{^etc/tao/} } @$installed;
spew("$dir/dest/$conf", "changed\n") if defined $conf;
make_in_tree('install');
is(slurp("$dir/dest/$conf"), "changed\n", 'a changed configuration file is kept') if defined $conf;
make_in_tree('uninstall');
is_deeply(files("$dir/dest"), [ defined $conf ? $conf : () ], 'uninstall leaves nothing else');

# --- packages, with stand-ins for dpkg and apt-get

mkdir "$dir/bin" or die;
sub stand_in {
	my ($name, $text) = @_;
	chmod 0755, spew("$dir/bin/$name", "#!/bin/sh\n$text\n");
}
spew("$dir/list", "[a]\none\n# no\ntwo\n[b]\nthree\n");
stand_in('dpkg-query', 'for last; do :; done; test "$last" = one && echo installed');
stand_in('apt-get', "{ echo \"apt-get \$*\"; cat $dir/policy; } >>$dir/apt-did; echo said\n"
	. "exit \$(cat $dir/apt-status)");
stand_in('find', '');
spew("$dir/apt-status", 0);

sub install_packages {
	my ($user, @groups) = @_;
	stand_in('id', "echo $user");
	return run('sh', '-c', '. "$0"; tao_install_packages "$@"', srctop() . '/test/lib/packages.sh',
		"$dir/list", @groups, { env => { PATH => "$dir/bin:$ENV{PATH}", tao_policy => "$dir/policy" } });
}

$r = install_packages(1000, 'a', 'b');
is($r->{status}, 1, 'an ordinary user cannot install packages');
like($r->{err}, qr/apt-get install --no-install-recommends two three$/m, 'but is told how');
ok(!-e "$dir/apt-did", 'which is not run');
$r = install_packages(0, 'a');
is($r->{status}, 0, 'root installs') or diag($r->{err});
like($r->{out}, qr/^Installing these Debian packages: two$/m, 'after saying what');
my $did = slurp("$dir/apt-did");
unlike($r->{out}, qr/said/, 'and no more');
like($did, qr/^apt-get .*update$/m, 'with fresh lists');
like($did, qr/^apt-get .*--no-install-recommends install two$/m, 'only what is missing');
like($did, qr/^exit 101$/m, 'no service may start meanwhile');
ok(!-e "$dir/policy", 'and later it may');
spew("$dir/policy", "theirs\n");
spew("$dir/apt-status", 100);
$r = install_packages(0, 'a');
ok($r->{status} == 1 && $r->{err} =~ /said/, 'a failure of apt-get is one, with its words');
is(slurp("$dir/policy"), "theirs\n", 'and the policy-rc.d that was there is back');
stand_in('dpkg-query', 'echo installed');
unlink "$dir/apt-did";
$r = install_packages(1000, 'a', 'b');
ok($r->{status} == 0 && !-e "$dir/apt-did", 'nothing missing, nothing done');

done_testing();
