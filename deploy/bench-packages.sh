#!/bin/sh
# Installs the Debian packages of the servers that `make bench` compares dnsvip with, by debian-packages.sh: root
# installs what is missing, any other user gets the list. No server is started system-wide or enabled at boot.
set -eu

here=$(dirname "$0")
new=""
for unit in nsd knot gdnsd pdns named haproxy; do
    systemctl cat "$unit" >/dev/null 2>&1 || new="$new $unit"
done
"$here/debian-packages.sh" nsd knot knot-module-geoip gdnsd pdns-server pdns-backend-bind pdns-backend-sqlite3 sqlite3 bind9 haproxy dnsperf
for unit in $new; do # only those installed just now
    systemctl --quiet disable "$unit" 2>/dev/null || true
done
