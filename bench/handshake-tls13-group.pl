# Full TLS 1.3 handshakes a second with the group tao_x25519, offered at once, against X25519.
use strict;
use warnings;

use TaoGroupBench;

group_against_x25519('handshake-tls13-group', 'tao_x25519:P-256', 'tao_x25519:P-256');
