"""Names that fit patterns, in which `*` stands for any text, and networks inside others. Pure.

A token may name thousands of both, and each request is judged by them: nothing is compiled or kept for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

WILD = "*"


def fits(text: str, pattern: str) -> bool:
    """Whether a text is one that a pattern stands for, case by case."""
    head, star, rest = pattern.partition(WILD)
    if not star:
        return text == pattern
    if not text.startswith(head):
        return False
    *middle, tail = rest.split(WILD)
    at, end = len(head), len(text) - len(tail)
    if at > end or not text.endswith(tail):
        return False
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def all_inside(networks: Iterable[str], others: Iterable[str]) -> bool:
    """Whether each network lies within one of others, or is the same; `*` within none. Looks at no pair of them."""
    outer = {_place(text) for text in others}
    lengths = {(version, length) for version, length, _ in outer}
    return all(_is_inside(text, outer, lengths) for text in networks)


def _is_inside(text: str, outer: set[tuple[int, int, int]], lengths: set[tuple[int, int]]) -> bool:
    if text == WILD:
        return False
    version, length, bits = _place(text)
    return any(
        (version, shorter, bits >> (length - shorter)) in outer
        for family, shorter in lengths
        if family == version and shorter <= length
    )


def _place(text: str) -> tuple[int, int, int]:
    """The family of a network, the length of its prefix, and that as a number."""
    network = ip_network(text)
    length = network.prefixlen
    return network.version, length, int(network.network_address) >> (network.max_prefixlen - length)
