"""A machine that systemd runs: a copy-on-write copy of this system in namespaces and cgroups of its own."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
CONTROLLERS = {"name=systemd", "pids", "memory", "devices", "cpu"}
"""Hierarchies of version 1 that the machine gets where this system has them."""
ENTER = """
for group in "${@:3}"; do echo $$ > "$group/cgroup.procs"; done
exec unshare --mount --net --pid --cgroup --uts --ipc --fork --kill-child bash -c "$1" boot "$2"
"""
BOOT = """
set -e
mount --make-rprivate /
while read -r _ target type options _; do
    case $type in cgroup*) echo "$target $type $options";; esac
done < /proc/self/mounts > /tmp/cgroups.$$
mount -t tmpfs -o size=3g tmpfs "$1"
mv /tmp/cgroups.$$ "$1/cgroups"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
root="$1/root"
mount -t proc proc "$root/proc"
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
grep -q "^/sys/fs/cgroup cgroup2" "$1/cgroups" || mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
while read -r target type options; do
    case "$type $options" in
        cgroup2*) kind=cgroup2;;
        *name=systemd*) kind=none,name=systemd;;
        *) kind="${options##*,}"; case $kind in pids | memory | devices | cpu) ;; *) continue;; esac;;
    esac
    mkdir -p "$root$target"
    if [ "$kind" = cgroup2 ]; then mount -t cgroup2 cgroup2 "$root$target"
    else mount -t cgroup -o "$kind" cgroup "$root$target"; fi
done < "$1/cgroups"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$root/dev"
mkdir -m 755 "$root/dev/pts" "$root/dev/net"
mkdir -m 1777 "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mknod -m 666 "$root/dev/net/tun" c 10 200
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
ip link set lo up
for unit in timers.target sockets.target remote-fs.target systemd-sysctl.service systemd-modules-load.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -f "$root/usr/sbin/policy-rc.d"
: > "$root/etc/machine-id"
cd "$root"
mkdir old
pivot_root . old
umount -l /old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --system --unit=basic.target --log-target=null
"""


class Machine:
    """A running machine; commands run in it as root."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.root = Path(f"/proc/{pid}/root")

    def run(self, *argv: str) -> str:
        """What a command prints; it has to succeed."""
        status, said = self.tried(*argv)
        assert status == 0, f"{argv}: {said}"
        return said

    def tried(self, *argv: str) -> tuple[int, str]:
        """The exit status of a command, and what it prints."""
        enter = ["nsenter", "--target", str(self.pid), "--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        done = subprocess.run(
            [*enter, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300
        )
        return done.returncode, done.stdout


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A machine with its root in a folder, without network, from its start to its end."""
    groups = [Path(mount, f"dnsvip-{os.getpid()}") for mount in _hierarchies()]
    for group in groups:
        group.mkdir()
    try:
        argv = ["bash", "-c", ENTER, "enter", BOOT, str(folder), *map(str, groups)]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as holder:
            try:
                yield _booted(holder)
            finally:
                holder.kill()
    finally:
        for group in groups:
            _remove(group)


def _hierarchies() -> list[str]:
    """Where cgroups are mounted that the machine gets."""
    mounts = re.findall(r"^\S+ (\S+) (cgroup2?) (\S+)", Path("/proc/self/mounts").read_text(), re.MULTILINE)
    return [path for path, kind, options in mounts if kind == "cgroup2" or CONTROLLERS & set(options.split(","))]


def _booted(holder: subprocess.Popen[str]) -> Machine:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if holder.poll() is not None:
            raise AssertionError(holder.stderr.read() if holder.stderr else "")
        pids = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        if pids and Path(f"/proc/{pids[0]}/comm").read_text() == "systemd\n":
            made = Machine(int(pids[0]))
            if made.tried("systemctl", "is-system-running", "--wait")[1].strip() in ("running", "degraded"):
                return made
        time.sleep(0.05)
    raise AssertionError("systemd has not started in time")


def _remove(group: Path) -> None:
    """Remove a cgroup with those in it, once its processes have ended."""
    end = time.monotonic() + 20
    while True:
        try:
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
