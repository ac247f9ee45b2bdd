package TaoCa;

# A certification authority made with `openssl ca`, as the recipes need one that knows nothing of the
# Tao, or one whose key is sealed.
#
#   ca_new(DIR, NAME, {opt})  makes the directory with its database and ca.cnf: an object. Options:
#                             key, cert (what ca.cnf names: files, or tao: URIs; DIR/key.pem, DIR/cert.pem)
#   $ca->self_signed          makes key.pem and a self-signed cert.pem
#   $ca->under(OTHER)         makes key.pem, and has the other one sign cert.pem, a CA's
#   $ca->sign(CSR, OUT, ARGS...) signs a request; ARGS go to `openssl ca`. Options: runner, a sub that
#                             turns openssl's arguments into a command
#   $ca->{dir}, ->{conf}, ->{cert}

use strict;
use warnings;

use Exporter 'import';
use TaoTest;

our @EXPORT = qw(ca_new);

my $openssl = '/usr/bin/openssl';

sub ca_new {
	my ($dir, $name, $opt) = @_;
	my $self = bless { dir => $dir, name => $name, conf => "$dir/ca.cnf", key => "$dir/key.pem", cert => "$dir/cert.pem",
		runner => sub { return ($openssl, @_) }, %{ $opt // {} } }, __PACKAGE__;
	mkdir $dir;
	mkdir "$dir/new";
	spew("$dir/index", '');
	spew("$dir/index.attr", "unique_subject = no\n");
	spew("$dir/serial", sprintf("%02X\n", 16 + length $name));
	spew("$dir/crlnumber", "01\n");
	spew($self->{conf}, <<"END");
[ca]
default_ca = this
[this]
database = $dir/index
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir/new
certificate = $self->{cert}
private_key = $self->{key}
default_md = sha256
default_days = 30
default_crl_days = 7
policy = any
copy_extensions = copy
x509_extensions = server
[any]
countryName = optional
organizationName = optional
organizationalUnitName = optional
commonName = optional
emailAddress = optional
[server]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = serverAuth, clientAuth, emailProtection
authorityKeyIdentifier = keyid
subjectKeyIdentifier = hash
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
authorityKeyIdentifier = keyid
subjectKeyIdentifier = hash
[encipher]
basicConstraints = CA:FALSE
keyUsage = keyEncipherment, keyAgreement
extendedKeyUsage = emailProtection
[responder]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = OCSPSigning
[req]
distinguished_name = dn
x509_extensions = authority
[dn]
END
	return $self;
}

sub request {
	my ($self) = @_;
	ok_run([ $openssl, qw(req -config), $self->{conf}, qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes), '-keyout', $self->{key},
		'-subj', "/O=Public/CN=$self->{name}", '-out', "$self->{dir}/csr.pem" ], "$self->{name}: a request");
	return "$self->{dir}/csr.pem";
}

sub self_signed {
	my ($self) = @_;
	ok_run([ $openssl, qw(req -x509 -days 300 -config), $self->{conf}, qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes), '-keyout',
		$self->{key}, '-subj', "/O=Public/CN=$self->{name}", '-out', $self->{cert} ], "$self->{name}: a root");
	return $self;
}

sub under {
	my ($self, $other) = @_;
	$other->sign($self->request, $self->{cert}, qw(-extensions authority -days 200));
	return $self;
}

sub sign {
	my ($self, $csr, $out, @args) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok_run([ $self->{runner}->(qw(ca -batch -notext -config), $self->{conf}, '-in', $csr, '-out', $out, @args) ],
		"$self->{name} signs $csr");
}

1;
