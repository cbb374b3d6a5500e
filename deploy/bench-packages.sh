#!/bin/sh
# The Debian packages that `make bench` compares dnsvip with. As debian-packages.sh does it: root installs what is
# missing, anybody else is told. None of these servers is started system-wide, nor enabled to be at the next boot.
set -eu

here=$(dirname "$0")
new=""
for unit in nsd knot gdnsd pdns named haproxy; do
    systemctl cat "$unit" >/dev/null 2>&1 || new="$new $unit"
done
"$here/debian-packages.sh" nsd knot knot-module-geoip gdnsd pdns-server pdns-backend-bind bind9 haproxy dnsperf
for unit in $new; do # those that came just now
    systemctl --quiet disable "$unit" 2>/dev/null || true
done
