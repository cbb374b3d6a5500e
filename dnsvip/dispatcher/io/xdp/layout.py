"""The structs that user space and the kernel's program share, as C lays them out (site.h, maps.h, flow_types.h...).

Each Form packs and unpacks one struct; a test holds every one against the object's own type information. Numbers
are in host byte order, except those whose C type says be: they are bytes here.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from typing import Any

MAX_CLUSTERS, MAX_TIERS, MAX_POOLS, MAX_SERVERS = 64, 256, 256, 4096
MAX_ATTRIBUTES, MAX_RINGS, MAX_CIPHERS = 16, 1024, 512
NONE = 0xFFFF_FFFF
"""No tier, no pool, no ring, no server."""
NO_DSCP = 255
RING_PLACES = 65_537
_ORDER = "<" if sys.byteorder == "little" else ">"


@dataclass(frozen=True, slots=True)
class Form:
    """One struct: its C name and its fields, each with a format of the `struct` module ("16s" for bytes)."""

    name: str
    fields: tuple[tuple[str, str], ...]
    _packer: struct.Struct = field(init=False, repr=False)
    _zero: dict[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_packer", struct.Struct(_ORDER + "".join(form for _, form in self.fields)))
        zero = {name: b"" if form.endswith("s") else 0 for name, form in self.fields}
        object.__setattr__(self, "_zero", zero)

    @property
    def size(self) -> int:
        """Bytes of the struct."""
        return self._packer.size

    def pack(self, **values: Any) -> bytes:
        """The struct with these values, zero elsewhere; an unknown name is a KeyError."""
        filled = self._zero | values
        if len(filled) != len(self.fields):
            raise KeyError(f"struct {self.name} has no {', '.join(values.keys() - self._zero.keys())}")
        return self._packer.pack(*filled.values())

    def unpack(self, data: bytes) -> dict[str, Any]:
        """The values of a struct."""
        return dict(zip(self._zero, self._packer.unpack(data), strict=True))

    def offsets(self) -> dict[str, tuple[int, int]]:
        """Offset and size of each field, in bytes."""
        found, at = {}, 0
        for name, form in self.fields:
            size = struct.calcsize(_ORDER + form)
            found[name] = (at, size)
            at += size
        return found


def _fields(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (word.split(":") for word in text.split())
    return tuple((name, form) for name, form in pairs)


EPOCH = Form("epoch", _fields("mac_key:16s mid:16s activated_at:Q identity:Q cipher:I present:I unused:Q"))
FIELD = Form("field", _fields("shift:I bits:I table:I"))
CLUSTER = Form(
    "cluster",
    _fields(
        "prefix:16s mask:16s plain:16s mac_mask:16s mode_bit:16s tag_mask:Q cheap_mask:Q present:I version:I "
        "epoch_shift:I tag_bits:I payload_bits:I proof_bits:I default_tier:I fallback_tier:I "
        f"epochs:{4 * EPOCH.size}s tier:{FIELD.size}s client:{FIELD.size}s expiry:{FIELD.size}s session:{FIELD.size}s "
        "expiry_unit:I slot_seconds:I session_seconds:I master:I "
        f"attributes:{MAX_ATTRIBUTES * FIELD.size}s attribute_count:I unused:60s"
    ),
)
TIER = Form(
    "tier",
    _fields(
        "present:I pool:I interval:Q burst:Q debt:Q drop:B require_proof:B unproven_default:B dscp:B over_passes:B "
        "unused:27s"
    ),
)
POOL = Form("pool", _fields("ring4:I ring6:I stickiness:I unused:I"))
SERVER = Form("server", _fields("address:16s pool:I room:I version:B mode:B keeps:B unused:5s"))
SITE = Form(
    "site",
    _fields(
        f"encap_source:8s translates:I unused:52s clusters:{MAX_CLUSTERS * CLUSTER.size}s "
        f"tiers:{MAX_TIERS * TIER.size}s pools:{MAX_POOLS * POOL.size}s servers:{MAX_SERVERS * SERVER.size}s"
    ),
)
RING = Form("ring", _fields(f"bits:H servers:{2 * MAX_SERVERS}s places:{2 * RING_PLACES + 4}s"))
CONFIG = Form(
    "config",
    _fields("clock_offset:q now:Q sample:I watched:I trace:I user_space:I generation:I unused:I"),
)
PREFIX6 = Form("prefix6", _fields("bits:I address:16s"))
PREFIX4 = Form("prefix4", _fields("bits:I address:4s"))
VALUE_KEY = Form("value_key", _fields("table:I zero:I value:Q"))
CLIENT = Form(
    "client",
    _fields("tier:I enabled:B proof_required:B single_use:B bind_address:B bind_port:B unused:3s"),
)
CLIENT_KEY_NAME = Form("client_key_name", _fields("client:Q master:I zero:I"))
FLOW_KEY = Form(
    "flow_key",
    _fields("source:16s destination:16s source_port:2s destination_port:2s protocol:B version:B zero:H"),
)
FLOW = Form(
    "flow",
    _fields(
        f"key:{FLOW_KEY.size}s hash:Q client:Q word:I place:I owner:I seen:I life:I port:2s state:B closing:B "
        "translated:B unused:7s"
    ),
)
LANES = Form(
    "lanes",
    _fields(
        "key:48s new_places:I row_mask:I number_mask:I phase:I cursor:Q established:Q established_places:I used:I "
        "padding:40s"
    ),
)
REMEMBERED = Form("remembered", _fields(f"key:{FLOW_KEY.size}s until:I unused:I"))
BUCKET = Form("bucket", _fields("full:Q"))
HOP = Form("hop", _fields("until:Q interface:I unused:I destination:6s source:6s known:I"))
COUNTER = Form("counter", _fields("packets:Q bytes:Q"))
EVENT = Form(
    "event",
    _fields(
        f"time:Q key:{FLOW_KEY.size}s client:Q server:I length:I reason:B action:B mode:B flags:B watched:B unused:3s"
    ),
)
WATCH = Form("watch", _fields("kind:I zero:I value:16s"))
LAST = Form("last", _fields("reason:I action:I server:I held:I"))
CIPHER_ORDER = Form("cipher_order", _fields("number:I remove:I key:16s faster:I"))
SWEEP = Form("sweep", _fields("now:I expired:I all:I unused:I"))
NAME_KEY = Form("name_key", _fields("kind:I number:I"))
NAME = Form("name", _fields("text:176s"))

FORMS = tuple(form for form in list(globals().values()) if isinstance(form, Form))
"""All of them."""

FLOW_STATES = ("none", "new", "established")
STICKINESS = {"flow": 0, "client": 1, "session": 2}
MODES = {"direct": 0, "encap": 1, "nat": 2}
ACTIONS = ("forward", "drop", "answer", "pass")
SIDES = (
    "to-user-space",
    "no-next-hop",
    "kept-new",
    "not-remembered",
    "decrypted",
    "event-lost",
    "not-sent",
)
"""The enumerations of the same names in C, in order; `sides` count what happened besides a packet's one reason."""


def wide(number: int) -> bytes:
    """A `struct wide`: a number of 128 bits."""
    return (number >> 64).to_bytes(8, sys.byteorder) + (number & (1 << 64) - 1).to_bytes(8, sys.byteorder)


def word(number: int) -> bytes:
    """A `__u32`."""
    return number.to_bytes(4, sys.byteorder)


def padded(address: bytes) -> bytes:
    """An address of 4 or 16 bytes as the maps hold it: in the last bytes of sixteen."""
    return address.rjust(16, b"\0")
