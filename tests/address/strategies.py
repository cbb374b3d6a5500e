"""Random layouts, secrets and values for the codec's properties."""

from __future__ import annotations

from ipaddress import IPv6Network

from hypothesis import strategies as st

from dnsvip.address.layout import Layout
from dnsvip.address.suffix import SuffixCodec

NAMES = ("tier", "client", "expiry", "nonce", "session", "lang", "age", "content")

secrets = st.binary(min_size=32, max_size=32)
epochs = st.integers(0, 3)


@st.composite
def layouts(draw: st.DrawFn, *, min_tag: int = 8) -> Layout:
    """Any valid layout: p + 3 + N + T = 128, fields in any order and of any width."""
    p = draw(st.integers(32, min(96, 128 - 3 - 20 - min_tag)))
    free = 125 - p
    tag = draw(st.integers(max(min_tag, free - 80), min(64, free - 20)))
    payload = free - tag
    first = draw(st.sampled_from(("tier", "client")))
    others = draw(
        st.lists(st.sampled_from([n for n in NAMES if n != first]), unique=True, max_size=min(5, payload - 1))
    )
    names = draw(st.permutations([first, *others]))
    cuts = sorted(draw(st.sets(st.integers(1, payload - 1), min_size=len(names) - 1, max_size=len(names) - 1)))
    widths = [b - a for a, b in zip([0, *cuts], [*cuts, payload], strict=True)]
    network = draw(st.integers(0, (1 << p) - 1)) << (128 - p)
    return Layout(IPv6Network((network, p)), tuple(zip(names, widths, strict=True)), tag)


@st.composite
def codecs(draw: st.DrawFn, *, min_tag: int = 8) -> SuffixCodec:
    """A codec over any layout, secret and epoch slot."""
    return SuffixCodec(draw(layouts(min_tag=min_tag)), draw(secrets), draw(epochs))


def payloads(layout: Layout) -> st.SearchStrategy[int]:
    """Any payload of a layout."""
    return st.integers(0, (1 << layout.payload_bits) - 1)
