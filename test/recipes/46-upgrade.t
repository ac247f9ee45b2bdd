# A package upgrade replaces nginx's executable: `tao trust` names the new one the old one's successor
# for a stated time, in which both sign: under load, by USR2 and by restart. After that time the old one is refused.
use strict;
use warnings;
use File::Copy qw(copy move);
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(stat time);
use TaoDaemon;
use TaoNginx;
use TaoTest;

need_programs(qw(nginx curl openssl));
need_same_openssl('/usr/sbin/nginx');
plan skip_all => 'nginx clears the environment of its successor, and with it the sanitizers\' runtime' if config('TAO_ASAN');
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;
my $ca = "$state/policy.pem";
sub tao { return [ $host->cmd(@_) ] }

my $nginx = "$dir/nginx";
copy('/usr/sbin/nginx', $nginx) or die;
chmod 0755, $nginx;
ok_run(tao(qw(key new web --for), $nginx), 'a key');
is(ok_run(tao('trust', $nginx, qw(--serves localhost)), 'trust')->{err}, '', 'nothing is upgraded yet');
fails_with(tao('trust', $nginx, qw(--both-for 1h)), qr/no older executable.*--replaces/, 'there is no older one');
fails_with(tao('trust', $nginx, qw(--both-for 1y)), qr/90s, 5m, 12h, 30d/, 'a time that is none');
fails_with(tao('trust', $nginx, qw(--both-for 400d)), qr/a year at most/, 'a long time');
fails_with(tao('trust', $nginx, qw(--replaces abc)), qr/SHA-256/, 'a hash that is none');
fails_with(tao('trust', $nginx, qw(--remove --both-for 1h)), qr/--remove/, 'options that do not go together');

sub configure {
	my ($name, $port) = @_;
	return nginx_conf("$dir/$name", $port, "$state/certs/$>/web.pem", "$state/keys/$>/web.pem",
		{ main => 'env OPENSSL_CONF;', server => 'ssl_session_cache off; ssl_session_tickets off;', says => "\$uri\n" });
}

sub hash_of { return run(qw(openssl dgst -sha256 -r), $_[0])->{out} =~ /^(\w+)/ ? $1 : '' }
sub errors { return join '', grep { /\[(?:emerg|alert|crit|error)\]/ } slurp("$dir/$_[0]/error.log") =~ /.*\n/g }

# A chain that verifies is not enough: the server's signature comes after it.
sub seen {
	my $got = shown($_[0], '1_3', $ca, { say => "GET / HTTP/1.0\r\n\r\n", until => qr/^(?:HTTP|closed)|:error:/ });
	$got->{served} = $got->{verified} && $got->{text} =~ m{^HTTP/1\.\d 200}m;
	return $got;
}

sub begin {
	my ($program, $name, $port) = @_;
	ok_run(tao('run', '--quiet', '--name', $name, $program, '-c', configure($name, $port), '-e', "$dir/$name/error.log"), "$name starts");
	my $since = time;
	ok(wait_for(sub { pid_in("$dir/$name/pid") && seen($port)->{served} }, 30), "$name serves") or diag(slurp("$dir/$name/error.log"));
	# A master that forked away is found by way of its workers, which the host has written down by then.
	my ($it) = grep { ($_->{label} // '') eq $name } @{ decode_json(run(@{ tao('--json', 'ps') })->{out}) };
	ok(wait_for(sub { ((stat "$state/host/instances/$it->{id}")[9] // 0) > $since }, 30), "the host knows ${name}'s master");
	return pid_in("$dir/$name/pid");
}

# Which executable shows itself.
sub shows {
	my ($port, $hash, $name) = @_;
	my $got;
	ok(wait_for(sub { $got = seen($port); $got->{served} && ($got->{program} // '') =~ /^Measured\(\[$hash\]/ }, 60), $name)
		or diag($got->{text});
}

END { kill 'KILL', grep { $_ } map { pid_in("$dir/$_/pid") } qw(usr2 restart) if defined $dir }

my $old = hash_of($nginx);
my %port = map { ($_ => free_port()) } qw(usr2 restart);
my %master = map { ($_ => begin($nginx, $_, $port{$_})) } sort keys %port;
my %load = map { ($_ => load($port{$_}, $ca)) } keys %port;
$_->wait_more(4) for values %load;

# --- the upgrade

copy($nginx, "$dir/kept") or die;
chmod 0755, "$dir/kept";
spew("$nginx.new", slurp($nginx) . 'x');
chmod 0755, "$nginx.new";
move("$nginx.new", $nginx) or die;
my $new = hash_of($nginx);
isnt($new, $old, 'another executable is at its path');
my $said = ok_run(tao('trust', $nginx, qw(--both-for 1h)), 'tao trust --both-for');
like($said->{err}, qr/was upgraded: the executable that it replaces works until \S+Z as well, and is refused then/, 'says until when both work');
my $rules = ok_run(tao(qw(policy show)), 'the policy')->{out};
like($rules, qr/^Successor\(\[$new\], \[$old\]\)$/m, 'names the successor');
like($rules, qr/^Until\(\[$old\], "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"\)$/m, 'and the time');
like($rules, qr/^Serves\(.*\[$new\].*"localhost"\)$/m, 'the new one serves what the old one does');
like($rules, qr/^Installed\(\[$new\], "\Q$nginx\E"\)$/m, 'and is what is there');
unlike($rules, qr/^(?:Until\(\[$new\]|Installed\(\[$old\])/m, 'without an end of its own');
like(slurp("$state/domain/rules"), qr/\Atao rules 2\n/, 'the file has the format that has times');
$_->wait_more(4) for values %load;

# By USR2: both masters serve for a while.
my $at = "$dir/usr2";
kill 'USR2', $master{usr2};
ok(wait_for(sub { pid_in("$at/pid.oldbin") == $master{usr2} && pid_in("$at/pid") && pid_in("$at/pid") != $master{usr2} }, 30), 'USR2: a new master')
	or diag(slurp("$at/error.log"));
my $master = pid_in("$at/pid");
ok(wait_for(sub { workers($master) >= 2 }, 30), 'with workers');
$load{usr2}->wait_more(8);
kill 'QUIT', $master{usr2};
ok(wait_for(sub { !lives($master{usr2}) }, 30), 'the old master ends');
shows($port{usr2}, $new, 'the new executable serves, and signs with the key');
$load{usr2}->wait_more(6);
is(join("\n", $load{usr2}->finish), '', 'no handshake failed');
is(errors('usr2'), '', 'no errors in its log');

# By restart, as a unit does: in between nobody listens.
my $since = $load{restart}->done;
kill 'QUIT', $master{restart};
ok(wait_for(sub { !lives($master{restart}) }, 30), 'restart: the old one ends');
wait_for(sub { !-e "$dir/restart/pid" }, 10);
$master{restart} = begin($nginx, 'restart', $port{restart});
shows($port{restart}, $new, 'the new executable serves');
$load{restart}->wait_more(6);
is(join("\n", grep { !/curl: \(7\)|reset by peer|\(52\)/ } $load{restart}->finish), '', 'no handshake failed');
cmp_ok($load{restart}->done, '>=', $since + 6, 'of many');

# --- a worker that was forgotten: it works until the time is over

kill 'QUIT', $master{restart};
ok(wait_for(sub { !lives($master{restart}) }, 30), 'once more');
wait_for(sub { !-e "$dir/restart/pid" }, 10);
$master{restart} = begin("$dir/kept", 'restart', $port{restart});
shows($port{restart}, $old, 'a copy of the old executable still serves');
ok_run(tao('trust', $nginx, qw(--both-for 2s)), 'a shorter time');
ok(wait_for(sub { !seen($port{restart})->{served} }, 30), 'it does not serve after it');
like(slurp("$dir/restart/error.log"), qr/accepted until|not valid at this time/, 'and its log says why') or diag(slurp("$dir/restart/error.log"));
ok(wait_for(sub { seen($port{usr2})->{served} }, 30), 'the new one does');
my $refused = run(@{ tao('run', "$dir/kept", '-v') });
is($refused->{status}, 126, 'the old executable is not started any more');
like($refused->{err}, qr/the executable \[$old\] was replaced by an upgrade, and accepted until \S+Z: start the program again, so that the new executable runs \(or .tao trust. this one/,
	'with a sentence that says so');
is(run(@{ tao('run', '--quiet', $nginx, '-v') })->{status}, 0, 'the new one is');
like(run(@{ tao(qw(log 100)) })->{out}, qr/accepted until/, 'the audit log tells');
ok_run(tao('trust', $nginx, qw(--both-for 1h)), 'too late');
fails_with(tao('run', '--quiet', "$dir/kept", '-v'), qr/\[$old\] was replaced by an upgrade/, 'what is over stays so');

# Named by its hash, from elsewhere; and taken back by trusting it again.
copy($nginx, "$dir/moved") or die;
spew("$dir/moved", slurp("$dir/moved") . 'y');
chmod 0755, "$dir/moved";
ok_run(tao('trust', "$dir/moved", '--replaces', $new, qw(--both-for 0s)), 'another path, whose predecessor is named');
fails_with(tao('run', '--quiet', $nginx, '-v'), qr/\[$new\] was replaced by an upgrade/, 'it is over at once');
ok_run(tao('trust', $nginx), 'the owner goes back');
is(run(@{ tao('run', '--quiet', $nginx, '-v') })->{status}, 0, 'it runs again');
shows($port{usr2}, $new, 'and serves');
$master{usr2} = pid_in("$dir/usr2/pid");
for my $name (sort keys %master) {
	kill 'TERM', $master{$name};
	ok(wait_for(sub { !lives($master{$name}) }, 20), "$name ends");
}

done_testing();
