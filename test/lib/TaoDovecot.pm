package TaoDovecot;

# Dovecot as the recipes configure it; version 2.4 says much in other words than the ones before.
# Pieces of a configuration, dovecot_common() first:
#
#   dovecot_24()   whether it is 2.4 or later
#   dovecot_common(DIR, SSL, LISTENERS)  makes DIR: IMAP on 127.0.0.1, with what Tao programs need of
#                  the environment; ssl = SSL, and these listeners
#   dovecot_mail(PLACE)  where mail is: "maildir:/x"
#   dovecot_users(HOME)  everybody, with the password "secret" and the rights of nobody

use strict;
use warnings;

use Exporter 'import';
use TaoTest;

our @EXPORT = qw(dovecot_24 dovecot_common dovecot_mail dovecot_users);

my $version;

sub dovecot_24 {
	$version //= run(qw(/usr/sbin/dovecot --version))->{out} =~ /^(\d+\.\d+)/ ? $1 : 0;
	return $version >= 2.4;
}

my $new_start = <<'CONF';
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
import_environment {
  OPENSSL_CONF = %{env:OPENSSL_CONF}
  TAO_DOOR = %{env:TAO_DOOR}
}
CONF
my $old_start = <<'CONF';
import_environment = TZ NOTIFY_SOCKET LISTEN_PID LISTEN_FDS OPENSSL_CONF TAO_DOOR
CONF

sub dovecot_common {
	my ($at, $ssl, $listeners) = @_;
	mkdir $_ for $at, "$at/run", "$at/state";
	my $count = dovecot_24() ? 'restart_request_count = unlimited' : 'service_count = 0';
	return (dovecot_24() ? $new_start : $old_start) . <<CONF;
base_dir = $at/run
state_dir = $at/state
log_path = $at/log
protocols = imap
listen = 127.0.0.1
ssl = $ssl
first_valid_uid = 1
service imap-login {
  $count
  $listeners
}
CONF
}

sub dovecot_mail {
	my ($driver, $path) = $_[0] =~ /^(\w+):(.*)/;
	return dovecot_24() ? "mail_driver = $driver\nmail_path = $path\n" : "mail_location = $driver:$path\n";
}

sub dovecot_users {
	my ($home) = @_;
	return <<NEW if dovecot_24();
passdb static {
  password = secret
}
userdb static {
  fields {
    uid = nobody
    gid = nogroup
    home = $home
  }
}
NEW
	return <<OLD;
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=$home
}
OLD
}

1;
