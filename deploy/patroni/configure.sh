#!/usr/bin/env bash
# Writes the configuration of three database machines: etcd, Patroni and certificates of an authority of their own.
#
#   configure.sh FOLDER ADDRESS1 ADDRESS2 ADDRESS3
#
# FOLDER/db1, db2 and db3 are to be copied to the machines as /etc/dnsvip-db (PLACE); FOLDER/ca.crt is for the dnsvip
# nodes. FOLDER/ca.key signs further certificates: keep it elsewhere. PLACE, DATA and ETCD_DATA (of the databases), SOCKETS
# and BIN (PostgreSQL's programs) can be set in the environment; @NAME@ in them becomes db1, db2 or db3. TTL is the time in
# seconds after which a silent leader is replaced.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)
[ $# = 4 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1; shift
place=${PLACE:-/etc/dnsvip-db}
data=${DATA:-/var/lib/postgresql/dnsvip}
etcd_data=${ETCD_DATA:-/var/lib/etcd/dnsvip}
sockets=${SOCKETS:-/var/run/postgresql}
bin=${BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)}
days=${DAYS:-3650}
ttl=${TTL:-20}
mkdir "$folder"

host() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }  # as in a URL
loopback() { case $1 in 127.*) echo "$2" ;; esac; }  # on one machine all connect from 127.0.0.1
secret() { openssl rand -hex 24; }
sign() {  # sign FILE ADDRESS: a key and a certificate for servers and clients at an address
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -days "$days" -out "$1.crt" 2>/dev/null \
    -extfile <(printf 'subjectAltName=IP:%s%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=digitalSignature\n' "$2" "$(loopback "$2" ,IP:127.0.0.1)")
  rm "$1.csr"
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" -subj /CN=dnsvip-databases \
  -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign \
  -keyout "$folder/ca.key" -out "$folder/ca.crt" 2>/dev/null
superuser=$(secret) replication=$(secret) rewind=$(secret)
etcd_hosts="" etcd_cluster="" hba="" number=0
for address; do
  number=$((number + 1))
  etcd_hosts+="${etcd_hosts:+, }\"$(host "$address"):2379\""
  etcd_cluster+="${etcd_cluster:+,}db$number=https://$(host "$address"):2380"
  case $address in *:*) from=$address/128 ;; 127.*) from=127.0.0.0/8 ;; *) from=$address/32 ;; esac
  for who in "replication replicator" "postgres rewinder" "all postgres"; do
    hba+="    - hostssl $who $from scram-sha-256"$'\n'
  done
done

number=0
for address; do
  number=$((number + 1)) name=db$number own=$folder/db$number
  mkdir "$own"
  cp "$folder/ca.crt" "$own"
  sign "$own/etcd" "$address"
  sign "$own/patroni" "$address"
  for file in patroni.yml etcd.env; do
    text=$(<"$here/$file.in")
    text=${text//@FOLDER@/$place}
    text=${text//@DATA@/$data}
    text=${text//@ETCD_DATA@/$etcd_data}
    text=${text//@SOCKETS@/$sockets}
    text=${text//@BIN@/$bin}
    text=${text//@NAME@/$name}
    text=${text//@TTL@/$ttl}
    text=${text//@WAIT@/$((ttl / 4))}
    text=${text//@HOST@/$(host "$address")}
    text=${text//@ETCD_HOSTS@/$etcd_hosts}
    text=${text//@ETCD_CLUSTER@/$etcd_cluster}
    text=${text//@HBA@/${hba%$'\n'}}
    text=${text//@SUPERUSER_PASSWORD@/$superuser}
    text=${text//@REPLICATION_PASSWORD@/$replication}
    text=${text//@REWIND_PASSWORD@/$rewind}
    printf '%s\n' "$text" >"$own/$file"
  done
done
