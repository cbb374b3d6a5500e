#!/bin/sh
# PostgreSQL as the image `postgres` starts it, as far as its variables are used here; without them Prometheus.
set -eu
[ -n "${POSTGRES_DB:-}" ] || exec prometheus --storage.tsdb.path=/tmp/data "$@"

PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
data=/var/lib/postgresql/data
if ! [ -s $data/PG_VERSION ]; then
    echo "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata $data --username "$POSTGRES_USER" --pwfile /tmp/password --auth scram-sha-256 --no-sync >/dev/null
    echo "host all all all scram-sha-256" >> $data/pg_hba.conf
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D $data -j postgres >/dev/null
fi
exec postgres -D $data -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off -c jit=off "$@"
