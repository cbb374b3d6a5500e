"""Judges the machine: ports, privileges, kernel settings, clock, disk. Pure: facts come from `probe_host`."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dnsvip.doctor.finding import Finding, failure, ok, unknown, warning

PORTS, RIGHTS, SYSCTL, CLOCK, DISK, LIMITS = "ports", "rights", "sysctl", "clock", "disk", "limits"
AES = "aes"

CAPABILITIES: Mapping[str, int] = {"CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
"""Bits of the capability masks in /proc/PID/status (capabilities(7))."""

RECEIVE_BUFFER = 4 << 20
"""The receive buffer (SO_RCVBUF) that the DNS server requests, in bytes."""

LITTLE_BYTES, LOW_BYTES = 64 << 20, 1 << 30
"""Free disk space below which the last good snapshot may not be saved, and below which to warn."""

SPARE_FILES = 128
"""Files that a process has open besides its TCP connections."""


@dataclass(frozen=True, slots=True)
class Port:
    """The result of trying to listen: `error` is an errno, 0 on success; `holder` the program that has it, if known."""

    key: str
    address: str
    protocol: str
    error: int = 0
    holder: str = ""


def judge_ports(ports: Iterable[Port]) -> Iterator[Finding]:
    """Whether each listener of the node file is available; one that dnsvip itself holds is fine."""
    for port in ports:
        where = f"{port.key}: {port.address} ({port.protocol})"
        match port.error:
            case 0:
                yield ok(PORTS, f"{where} is free")
            case errno.EADDRINUSE if "dnsvip" in port.holder:
                yield ok(PORTS, f"{where} is held by {port.holder}")
            case errno.EADDRINUSE:
                yield failure(PORTS, f"{where} is taken by {port.holder or 'another program'}", _vacate(port))
            case errno.EADDRNOTAVAIL:
                mend = "give this machine the address (ip address add ... dev ...), or name one that it has"
                yield failure(PORTS, f"{where}: this machine has no such address", mend)
            case errno.EACCES:
                mend = (
                    "run it by deploy/systemd/dnsvip-serve.service, which grants CAP_NET_BIND_SERVICE, or as root: "
                    f"sysctl -w net.ipv4.ip_unprivileged_port_start={port.address.rpartition(':')[2]}"
                )
                yield failure(PORTS, f"{where}: this user may not listen on so low a port", mend)
            case code:
                yield failure(PORTS, f"{where}: {errno.errorcode.get(code, code)}", "name another address or port")


def _vacate(port: Port) -> str:
    if "systemd-resolve" in port.holder:
        return "name this machine's own address instead of a loopback one, or set DNSStubListener=no in resolved.conf"
    return f"stop it, or name another port in {port.key}"


def judge_rights(mask: int, wanted: Iterable[str], tun: str | None) -> Iterator[Finding]:
    """Whether the process has the capabilities (effective `mask`) and the TUN device: `tun` says what is wrong with it,
    "" nothing, None where it is not needed."""
    names = list(wanted)
    missing = [name for name in names if not mask >> CAPABILITIES[name] & 1]
    if missing:
        mend = "run as root, or by deploy/systemd/dnsvip-dispatch.service, which grants them"
        yield failure(RIGHTS, f"this user lacks {', '.join(missing)}", mend)
    elif names:
        yield ok(RIGHTS, f"{', '.join(names)} granted")
    if tun:
        yield failure(RIGHTS, tun.partition(";")[0], tun.partition("; ")[2] or "as root: modprobe tun")
    elif tun is not None:
        yield ok(RIGHTS, "/dev/net/tun can be opened")


def judge_forwarding(values: Mapping[str, str | None], versions: Iterable[int]) -> Iterator[Finding]:
    """Whether the kernel forwards the IP versions of the clusters; `values` by sysctl name, None unreadable."""
    for version in sorted(versions):
        name = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}[version]
        value = values.get(name)
        if value is None:
            yield unknown(SYSCTL, f"{name} cannot be read", f"check it by hand: sysctl {name}")
        elif value == "0":
            mend = f"sysctl -w {name}=1, and for good in /etc/sysctl.d (deploy/sysctl/dnsvip-dispatch.conf)"
            yield failure(SYSCTL, f"{name} is 0: this machine drops packets that are for servers", mend)
        else:
            yield ok(SYSCTL, f"{name} is {value}")


def judge_buffers(rmem_max: int | None, *, privileged: bool) -> Iterator[Finding]:
    """Whether DNS sockets get the receive buffer they request; privileged processes always do."""
    if rmem_max is None or privileged or rmem_max >= RECEIVE_BUFFER:
        return
    mend = (
        f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER}, and for good in /etc/sysctl.d (deploy/sysctl/dnsvip-serve.conf)"
    )
    yield warning(SYSCTL, f"net.core.rmem_max is {rmem_max}: bursts of queries are lost", mend)


def judge_files(soft: int, connections: int) -> Iterator[Finding]:
    """Whether the file limit covers the maximum number of TCP connections."""
    if soft < connections + SPARE_FILES:
        wanted = connections + SPARE_FILES
        mend = f"raise it (ulimit -n, LimitNOFILE= in the unit) to {wanted}, or lower dns.tcp.connections"
        yield warning(LIMITS, f"a process may open {soft} files, and dns.tcp.connections is {connections}", mend)


@dataclass(frozen=True, slots=True)
class Clock:
    """`synchronised` as the kernel reports it, None where it does not; `skew` against the database's clock in seconds
    (positive: ours is ahead), None where the database is on this machine."""

    synchronised: bool | None
    skew: float | None = None


def judge_aes(*, hardware: bool, fixed_time: bool) -> Iterator[Finding]:
    """Whether the kernel's AES is in hardware: an address takes ten blocks, the first time it is used."""
    if hardware:
        yield ok(AES, "the kernel has AES in hardware")
        return
    software = "0.7 us by tables, whose timing others may observe"
    cost = f"about {'1.7 us (fixed_time_aes)' if fixed_time else software}"
    mend = "load the driver (modprobe aesni_intel; arm64: aes-ce-blk), or boot a kernel and a machine that have it"
    yield warning(AES, f"the kernel has no AES in hardware: each new address costs {cost}, instead of 0.15", mend)


def judge_clock(clock: Clock, tolerance: float) -> Iterator[Finding]:
    """Whether this machine's clock can be trusted; `tolerance` is the shortest slot of a proof, in seconds."""
    mend = "run NTP on all machines: apt-get install chrony (or systemd-timesyncd)"
    if clock.skew is not None and abs(clock.skew) >= tolerance:
        yield failure(CLOCK, f"{abs(clock.skew):.1f} s off the database's: proofs and expiries will be refused", mend)
    elif clock.skew is not None and abs(clock.skew) >= 1:
        yield warning(CLOCK, f"{abs(clock.skew):.1f} s off the database's", mend)
    elif clock.skew is not None:
        yield ok(CLOCK, f"{abs(clock.skew) * 1000:.0f} ms off the database's")
    if clock.synchronised is None:
        yield unknown(CLOCK, "the kernel does not say whether it is synchronised", "check it: timedatectl")
    elif clock.synchronised:
        yield ok(CLOCK, "synchronised")
    else:
        yield warning(CLOCK, "not synchronised: expiry and proofs depend on the clock", mend)


def judge_disk(folder: str, free: int | None, *, writable: bool) -> Iterator[Finding]:
    """Whether a folder can be written and has room, `free` in bytes."""
    if free is None:
        yield failure(DISK, f"{folder} does not exist and cannot be created", f"mkdir -p {folder}, as the node's user")
    elif not writable:
        yield failure(
            DISK, f"{folder} cannot be written by this user", f"chown it to the node's user: chown dnsvip {folder}"
        )
    elif free < LITTLE_BYTES:
        yield failure(DISK, f"{folder} has {free >> 20} MiB free", "make room: snapshots and changes cannot be saved")
    elif free < LOW_BYTES:
        yield warning(DISK, f"{folder} has {free >> 20} MiB free", "make room before it is full")
    else:
        yield ok(DISK, f"{folder} has {free >> 30} GiB free")
