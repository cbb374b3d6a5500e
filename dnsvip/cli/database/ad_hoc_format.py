"""An address format given on the command line, for trials without any database.

It knows prefix, fields, tag and one secret, so it can say what an address carries and whether it is
authentic, but nothing of tiers, clients or the epoch's life.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from dnsvip.address.layout import Layout
from dnsvip.address.proof import CLIENT_KEY_BYTES, Bind, acceptable_slots, verify
from dnsvip.address.suffix import SuffixCodec
from dnsvip.cli.shared.parameters import HEX, LAYOUT, PREFIX, Choice
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.dispatcher.verify.explain import DecodingStep
from dnsvip.errors import CodecError

_Command = TypeVar("_Command", bound=Callable[..., Any])

NEEDED = ("prefix", "layout", "secret")


def format_options(command: _Command) -> _Command:
    """The options that define a format, in place of --config."""
    options = (
        click.option("--prefix", type=PREFIX, help="Without --config: the cluster prefix."),
        click.option("--layout", type=LAYOUT, metavar="NAME:BITS,...", help="Without --config: the fields."),
        click.option("--tag-bits", type=int, help="Without --config: the tag's bits; default: all that are left."),
        click.option("--epoch", type=click.IntRange(0, 3), help="Without --config: the epoch slot; default 0."),
        click.option("--secret", type=HEX, help="Without --config: the epoch's secret. For trials, not for real keys."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def proof_options(command: _Command) -> _Command:
    """The options with which an ad hoc format checks a proof too."""
    options = (
        click.option("--client-key", type=HEX, help="Without --config: the client's key, to check a proof with."),
        click.option(
            "--bind",
            type=Choice([bind.value for bind in Bind]),
            help="Without --config: what the proof is bound to.",
        ),
        click.option("--slot-seconds", type=int, help="Without --config: the length of a proof's slot; default 30."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def refuse(by_hand: dict[str, Any]) -> None:
    """A usage error where --config comes with options of an ad hoc format."""
    given = [f"--{name.replace('_', '-')}" for name, value in by_hand.items() if value is not None]
    if given:
        raise click.UsageError(f"{', '.join(given)}: not with --config, which knows the format")


def make_codec(by_hand: dict[str, Any]) -> SuffixCodec:
    """The codec of the format; a usage error where it is incomplete or impossible."""
    missing = [f"--{name}" for name in NEEDED if by_hand[name] is None]
    if missing:
        raise click.UsageError(f"name --config NODE.toml, or a format by hand ({', '.join(missing)} missing)")
    prefix, fields, tag_bits = by_hand["prefix"], by_hand["layout"], by_hand["tag_bits"]
    if tag_bits is None:
        tag_bits = 125 - prefix.prefixlen - sum(bits for _, bits in fields)
    try:
        return SuffixCodec(Layout(prefix, fields, tag_bits), by_hand["secret"], by_hand["epoch"] or 0)
    except CodecError as error:
        raise click.UsageError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Packet:
    """The packet in question: from `source` and `port` to `address`, at `now` (unix seconds)."""

    address: int
    source: int
    port: int
    now: float


def verify_ad_hoc(by_hand: dict[str, Any], packet: Packet) -> tuple[AddressVerdict, tuple[DecodingStep, ...]]:
    """What the format alone reveals of an address, up to the first step that fails."""
    codec, address = make_codec(by_hand), packet.address
    layout = codec.layout
    mode, epoch = 1 if address & layout.mode_bit else 0, address >> layout.epoch_shift & 3
    inside = address >> layout.host_bits == layout.prefix_int >> layout.host_bits
    authentic = codec.authentic(address)
    values = codec.decode(address) if authentic else {}
    bits = f"top {layout.cheap_tag_bits} of the {layout.tag_bits}" if mode else f"{layout.tag_bits}"
    payload = ", ".join(f"{name} {number}" for name, number in values.items())
    tag = f"the {bits} tag bits {'fit' if authentic else 'do not fit'}"
    checks = (
        (AddressReason.NOT_OURS, DecodingStep("prefix", f"{'in' if inside else 'not in'} {layout.prefix}", inside)),
        (AddressReason.UNKNOWN_EPOCH, DecodingStep("epoch", f"mode {mode}, epoch slot {epoch}", epoch == codec.epoch)),
        (
            AddressReason.BAD_TAG,
            DecodingStep("tag", tag, authentic),
        ),
        (AddressReason.BAD_PAYLOAD, DecodingStep("payload", payload)),
        _check_proof(by_hand, layout, packet, mode),
    )
    failed = next((number for number, (_, step) in enumerate(checks) if not step.ok), len(checks))
    reason = checks[failed][0] if failed < len(checks) else AddressReason.PROVEN if mode else AddressReason.ISSUED
    steps = [step for _, step in checks[: failed + 1]]
    rest = DecodingStep("rest", "what tier, expiry and client mean is not known without --config")
    return AddressVerdict(reason, mode=mode, epoch=epoch, values=values), (
        *steps,
        *([rest] if failed == len(checks) else []),
    )


def _check_proof(
    by_hand: dict[str, Any], layout: Layout, packet: Packet, mode: int
) -> tuple[AddressReason, DecodingStep]:
    key, bind = by_hand["client_key"], Bind(by_hand["bind"] or Bind.ADDRESS)
    if not mode:
        return AddressReason.BAD_PROOF, DecodingStep("proof", "none carried")
    if key is None:
        return AddressReason.UNPROVEN, DecodingStep("proof", "cannot be checked without --client-key", ok=False)
    if len(key) != CLIENT_KEY_BYTES:
        raise click.UsageError(f"--client-key: {len(key)} bytes: must be {CLIENT_KEY_BYTES}")
    slots = acceptable_slots(packet.now, by_hand["slot_seconds"] or 30)
    fits = any(verify(layout, packet.address, key, bind, packet.source, packet.port, slot) for slot in slots)
    said = f"{'fits' if fits else 'does not fit'} key, binding ({bind}) and the time slots {min(slots)} to {max(slots)}"
    return AddressReason.BAD_PROOF, DecodingStep("proof", said, ok=fits)
