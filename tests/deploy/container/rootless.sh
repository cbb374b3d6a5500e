#!/bin/bash
# The first process of the namespaces where `nobody` runs podman: rootless.sh FOLDER. Nothing that it changes is seen outside.
set -euo pipefail
folder=$1

echo "65534:200000:65536" > "$folder/subids"
for file in /etc/subuid /etc/subgid; do mount --bind "$folder/subids" "$file"; done
ip link set lo up
mount --make-rshared /
mount -t tmpfs -o mode=755 none /dev/net   # some machines have a device that only root may open
mknod -m 666 /dev/net/tun c 10 200
mount -t tmpfs -o mode=700,uid=65534,gid=65534 none "$folder/run"

setpriv --reuid=65534 --regid=65534 --clear-groups podman system service --time 0 "unix://$folder/run/api.sock" &
while true; do wait; sleep 0.5; done  # collects what containers leave
