# Full TLS 1.3 handshakes a second with the group tao_x25519, for which the server asks with a
# HelloRetryRequest, since the client offered X25519 first; against X25519 without one.
use strict;
use warnings;

use TaoGroupBench;

group_against_x25519('handshake-tls13-group-hrr', 'tao_x25519:P-256', 'X25519:tao_x25519:P-256');
