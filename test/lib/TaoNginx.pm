package TaoNginx;

# nginx as the recipes configure it, and its processes.
#
#   nginx_conf(DIR, PORT, CERT, KEY, {opt})  makes DIR and a configuration, whose path it returns: one
#                 server with TLS on that port of 127.0.0.1, whose pid and error.log are in DIR.
#                 Options: says (what it returns, "hello\n"), main and server (lines that go there),
#                 log (instead of error.log), workers (2)
#   pid_in(FILE)  the process that a file of nginx's names, 0 if it names none
#   parent(PID) lives(PID)
#   workers(PID)  the children of that master

use strict;
use warnings;

use Exporter 'import';
use TaoTest;

our @EXPORT = qw(nginx_conf pid_in parent lives workers);

sub nginx_conf {
	my ($at, $port, $cert, $key, $opt) = @_;
	my $user = $> == 0 ? 'user www-data;' : '';
	my $log = $opt->{log} // "$at/error.log";
	my $temp = join ' ', map { "${_}_temp_path $at/$_;" } qw(client_body proxy fastcgi uwsgi scgi);
	my $says = ($opt->{says} // "hello\n") =~ s/\n/\\n/gr;
	mkdir $at;
	return spew("$at/nginx.conf", <<"CONF");
$user
worker_processes ${\ ($opt->{workers} // 2)};
pid $at/pid;
error_log $log info;
${\ ($opt->{main} // '')}
events { }
http {
	access_log off;
	$temp
	server {
		listen 127.0.0.1:$port ssl;
		ssl_protocols TLSv1.2 TLSv1.3;
		ssl_certificate     $cert;
		ssl_certificate_key $key;
		${\ ($opt->{server} // '')}
		default_type text/plain;
		return 200 "$says";
	}
}
CONF
}

sub pid_in { my ($file) = @_; return -s $file ? slurp($file) =~ s/\D//gr : 0 }
sub parent { return slurp("/proc/$_[0]/stat") =~ /\) \w (\d+)/ ? $1 : 0 }
sub lives { return defined readlink "/proc/$_[0]/exe" }
sub workers { my ($master) = @_; return grep { eval { parent($_) == $master } } map { m{(\d+)$} } glob '/proc/[0-9]*' }

1;
