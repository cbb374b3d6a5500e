"""The sniffer prints packets as tcpdump does."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from dnsvip.demo.sniffer import describe

PREFIX = IPv6Network("2001:db8:a:1::/64")


def tcp(source: str, destination: str, flags: int) -> bytes:
    """An IPv6 TCP packet without data, port 1234 to port 80."""
    ip = bytes([0x60, 0, 0, 0, 0, 20, 6, 64]) + IPv6Address(source).packed + IPv6Address(destination).packed
    return ip + (1234).to_bytes(2, "big") + (80).to_bytes(2, "big") + bytes(8) + bytes([0x50, flags]) + bytes(6)


@pytest.mark.parametrize(("flags", "shown"), [(0x02, "S"), (0x12, "S."), (0x18, "P."), (0x11, "F."), (0x14, "R.")])
def test_a_packet_is_one_line_in_tcpdumps_words(flags: int, shown: str) -> None:
    """Addresses, ports and flags have tcpdump's format."""
    packet = tcp("2001:db8::1", "2001:db8:a:1::1", flags)
    assert describe(packet, PREFIX) == f"IP6 2001:db8::1.1234 > 2001:db8:a:1::1.80: Flags [{shown}]"
    assert describe(tcp("2001:db8:a:1::1", "2001:db8::1", flags), PREFIX)


def test_other_packets_are_passed_over() -> None:
    """Other prefixes, other protocols and truncated packets give no line."""
    packet = tcp("2001:db8::1", "2001:db8:a:1::1", 2)
    assert describe(tcp("2001:db8::1", "2001:db8::2", 2), PREFIX) is None
    assert describe(packet[:6] + b"\x11" + packet[7:], PREFIX) is None
    assert describe(packet[:59], PREFIX) is None
    assert describe(b"\x45" + packet[1:], PREFIX) is None
