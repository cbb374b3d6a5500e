"""Claims in the IPv6 flow label of the first packet of a flow (address/README.md, "Label").

    |<- k bits ->|<- m bits ->|      k + m = 20
    |   claims   |    mac     |

The client masks its claims and authenticates them with its key. A label that does not fit is nobody's claim: hosts and
middleboxes set labels of their own (RFC 6437), so it is never a reason to reject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dnsvip.address.fields import Fields, Shifts, pack_claims, shifts_of, unpack, width
from dnsvip.address.layout import NOT_CLAIMED
from dnsvip.address.proof import Bind, Use, check_key, client_mac, client_message
from dnsvip.errors import CodecError

LABEL_BITS = 20
MIN_MAC_BITS, MAX_MAC_BITS = 8, 19
_LABEL, _LABEL_MAC = int(Use.LABEL), int(Use.LABEL_MAC)


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """The claims of a cluster's flow labels, (name, bits), most significant first.

    Raises CodecError where claims and mac are not 20 bits, break a bound, or claim what the DNS server alone says.
    """

    claims: Fields
    mac_bits: int
    claim_bits: int = field(init=False)
    _shifts: Shifts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "claim_bits", width(self.claims))
        _check_bounds(self)
        object.__setattr__(self, "_shifts", shifts_of(self.claims))

    def pack(self, values: Mapping[str, int]) -> int:
        """The integer of claims; those not named are 0, "not set". Raises CodecError for what does not fit."""
        return pack_claims(self.claims, values)

    def unpack(self, claims: int) -> dict[str, int]:
        """The values of all claims in an integer."""
        return unpack(self._shifts, claims)

    def make(self, address: int, key: bytes, bind: Bind, source: int, port: int, slot: int, claims: int) -> int:
        """The label of a flow to `address` that says `claims`; raises CodecError for a key that has not 16 bytes.

        One in 2^20 is 0, which is no label: the flow then goes without these claims.
        """
        check_key(key)
        if claims >> self.claim_bits:
            raise CodecError(f"claims {claims:#x}: the label has {self.claim_bits} bits for them")
        message = client_message(address, bind, source, port)
        masked = claims ^ client_mac(key, message, _LABEL, slot) >> 64 - self.claim_bits
        return masked << self.mac_bits | client_mac(key, message, _LABEL_MAC + masked, slot) >> 64 - self.mac_bits

    def read(
        self, label: int, address: int, key: bytes, bind: Bind, source: int, port: int, slots: Iterable[int]
    ) -> int | None:
        """The claims that a label says with this key and source, in the first slot that it fits; None where none does.

        Not constant-time, for the reason given at `SuffixCodec.authentic`.
        """
        message, mac_bits = client_message(address, bind, source, port), self.mac_bits
        masked, unused = label >> mac_bits, 64 - mac_bits
        use, mac = _LABEL_MAC + masked, label & (1 << mac_bits) - 1
        for slot in slots:
            if client_mac(key, message, use, slot) >> unused == mac:
                return masked ^ client_mac(key, message, _LABEL, slot) >> 64 - self.claim_bits
        return None


def _check_bounds(label: LabelFormat) -> None:
    names = [name for name, _ in label.claims]
    k, m = label.claim_bits, label.mac_bits
    rules = (
        (MIN_MAC_BITS <= m <= MAX_MAC_BITS, f"mac_bits {m}: must be {MIN_MAC_BITS} to {MAX_MAC_BITS}"),
        (all(bits > 0 for _, bits in label.claims), "every claim needs at least one bit"),
        (len(set(names)) == len(names), "a claim's name is used twice"),
        (not NOT_CLAIMED & set(names), f"{', '.join(sorted(NOT_CLAIMED & set(names)))} cannot be claimed"),
        (k + m == LABEL_BITS, f"claims {k} + mac {m} = {k + m} bits: must be {LABEL_BITS}"),
    )
    for holds, message in rules:
        if not holds:
            raise CodecError(message)
