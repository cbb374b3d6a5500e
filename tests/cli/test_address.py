"""`dnsvip decode` and `encode`: over a real database and by hand, for people, for machines, and by exit code."""

from __future__ import annotations

import asyncio
import json
import shutil
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dnsvip.address.proof import Bind, client_key, prove
from dnsvip.cli.database.address import decode, encode
from dnsvip.errors import StoreError
from dnsvip.site import Site, Snapshot
from dnsvip.site.io.files import load_node, load_site
from dnsvip.site.plan import plan
from dnsvip.store import KeyEncryptionKey, Store

ROOT = Path(__file__).parent.parent
CASES = json.loads((ROOT / "fixtures" / "address-format.json").read_text())["cases"]
LAYOUT = "tier:4,client:20,expiry:7,nonce:6"
BY_HAND = ["--prefix", "2001:db8:a:1::/64", "--layout", LAYOUT, "--secret", "00" * 32]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node file whose database holds the example site, with keys made by the store."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("site.toml", "node.toml", "example.test.zone"):
        shutil.copy(ROOT.parent / "examples" / name, folder / name)
    asyncio.run(_apply(folder))
    return folder / "node.toml"


async def _apply(folder: Path) -> None:
    store = await _open(folder / "node.toml")
    await store.objects.apply(plan(Site(), load_site(folder / "site.toml"), {}), "test", "site")
    await store.close()


async def _open(node: Path) -> Store:
    config = load_node(node)
    return await Store.open(config.database, KeyEncryptionKey.load(config.key_file, {}))


async def _snapshot(node: Path) -> Snapshot:
    store = await _open(node)
    try:
        return await store.snapshots.load()
    finally:
        await store.close()


def run(command: Any, *args: str | Path) -> Result:
    return CliRunner().invoke(command, [str(arg) for arg in args])


def encoded(node: Path, *args: str) -> str:
    result = run(encode, "--config", node, *args)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def decoded(node: Path, *args: str) -> tuple[int, dict[str, Any]]:
    result = run(decode, "--config", node, "--json", *args)
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("who", ["acme", "1001"])
def test_encoded_address_of_a_client_decodes(node: Path, who: str) -> None:
    """The address of a client, by name or id, is accepted and told to be that client's."""
    code, explanation = decoded(node, encoded(node, "--cluster", "web", "--client", who))
    assert code == 0
    assert (explanation["accepted"], explanation["reason"], explanation["cluster"]) == (True, "issued", "web")
    assert (explanation["client"], explanation["tier"], explanation["values"]["client"]) == ("acme", "gold", 1001)
    assert all(step["ok"] for step in explanation["steps"])


def test_encode_without_client_is_anonymous(node: Path) -> None:
    """Without a client an anonymous client's address is made, whatever DNS would answer it."""
    code, explanation = decoded(node, encoded(node))
    assert (code, explanation["client"], explanation["tier"], explanation["values"]["client"]) == (
        0,
        None,
        "standard",
        0,
    )


def test_fields_are_set_by_number_or_name(node: Path) -> None:
    """Fields are set by number, also hexadecimal, and a tier by its name; the others stay the client's."""
    address = encoded(node, "--client", "acme", "--field", "tier=blocked", "--field", "nonce=0xf")
    values = decoded(node, address)[1]["values"]
    assert (values["tier"], values["nonce"], values["client"], values["lang"]) == (15, 15, 1001, 1)


def test_ipv4_classes(node: Path) -> None:
    """In an IPv4 cluster a client's address is one of its tier's, and decodes to the tier."""
    address = encoded(node, "--cluster", "legacy", "--client", "acme")
    code, explanation = decoded(node, address)
    assert address in ("192.0.2.8", "192.0.2.9")
    assert (code, explanation["reason"], explanation["tier"]) == (0, "class", "gold")


def test_people_see_each_step(node: Path) -> None:
    """Without --json every step has a line with its mark, title and fact, and the verdict comes last."""
    result = run(decode, encoded(node, "--client", "acme"), "--config", node)
    lines = result.stdout.splitlines()
    titles = ["prefix", "plain", "epoch", "tag", "payload", "expiry", "client", "proof", "verdict"]
    assert [line.split()[1] for line in lines[1:]] == titles
    assert "client 1001 (acme)" in result.stdout
    assert "accepted as issued: tier gold, pool fast" in lines[-1]


@pytest.mark.parametrize(
    ("address", "reason"),
    [("2001:db8:a:1::5", "bad-tag"), ("2001:db8:a:1:6000::", "unknown-epoch"), ("2001:db8::1", "not-ours")],
)
def test_rejected_addresses_exit_with_one(node: Path, address: str, reason: str) -> None:
    """An address that would be rejected, or is not ours, exits with 1 and says why."""
    code, explanation = decoded(node, address)
    assert (code, explanation["accepted"], explanation["reason"]) == (1, False, reason)
    assert not explanation["steps"][-1]["ok"]


def test_time_of_judgement(node: Path) -> None:
    """--at judges at another moment, as unix seconds or ISO 8601: an address expires."""
    address = encoded(node, "--client", "acme", "--field", "expiry=1")
    assert decoded(node, address)[0] == 0
    assert decoded(node, address, "--at", "2100-01-01T00:00:00Z")[1]["reason"] == "expired"
    assert decoded(node, address, "--at", "4102444800")[1]["reason"] == "expired"


def test_proof_is_checked_against_source_and_time(node: Path) -> None:
    """A proven address is accepted with the source it is bound to, and without --source a hint says what is missing."""
    snapshot = asyncio.run(_snapshot(node))
    layout = snapshot.keyrings["web"].layout
    key = client_key(snapshot.masters["web"], layout, 1001, 0)
    issued, source = int(IPv6Address(encoded(node, "--client", "acme"))), "2001:db8:77::5"
    epoch = snapshot.keyrings["web"].epochs[0]
    slot = epoch.activated_at // 30
    proven = str(IPv6Address(prove(layout, issued, key, Bind.ADDRESS, int(IPv6Address(source)), 0, slot)))
    at = ["--at", str(slot * 30)]
    assert decoded(node, proven, "--source", source, *at)[1]["reason"] == "proven"
    code, explanation = decoded(node, proven, *at)
    assert (code, explanation["reason"], explanation["steps"][-1]["title"]) == (1, "bad-proof", "hint")
    assert decoded(node, proven, "--source", "2001:db8:77::6", *at)[1]["reason"] == "bad-proof"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["issued"])
def test_vectors_by_hand(case: dict[str, Any]) -> None:
    """Every shared vector encodes, decodes and is rejected with nothing but the command line."""
    layout = ",".join(f"{name}:{bits}" for name, bits in case["fields"])
    known = ["--prefix", case["prefix"], "--layout", layout, "--secret", case["secret"], "--epoch", str(case["epoch"])]
    fields = [arg for name, value in case["values"].items() for arg in ("--field", f"{name}={value}")]
    assert run(encode, *known, *fields).stdout == case["issued"] + "\n"
    explanation = run(decode, case["issued"], *known, "--json")
    assert (explanation.exit_code, json.loads(explanation.stdout)["values"]) == (0, case["values"])
    for address in case["rejected"]:
        assert run(decode, address, *known).exit_code == 1
    proof = case["proof"]
    packet = ["--source", proof["source"], "--port", str(proof["source_port"]), "--at", str(proof["slot"] * 30)]
    key = ["--client-key", proof["client_key"], "--bind", proof["bind"]]
    assert run(decode, proof["proven"], *known, *packet, *key).exit_code == 0
    assert "cannot be checked without --client-key" in run(decode, proof["proven"], *known, *packet).stdout


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        (decode, ["nonsense", *BY_HAND], "'nonsense': must be an IPv6 or IPv4 address"),
        (decode, ["::1"], "name --config NODE.toml, or a format by hand (--prefix, --layout, --secret missing)"),
        (decode, ["::1", *BY_HAND, "--tag-bits", "23"], "= 127 bits: must be 128"),
        (decode, ["::1", *BY_HAND, "--at", "tea time"], "'tea time': must be unix seconds or an ISO 8601 time"),
        (decode, ["::1", *BY_HAND, "--layout", "tier"], "'tier': must be NAME:BITS,NAME:BITS,..."),
        (decode, ["::1", *BY_HAND, "--secret", "00ff"], "epoch secret of 2 bytes: must be 32"),
        (decode, ["::1", *BY_HAND, "--secret", "xyz"], "must be hexadecimal digits"),
        (encode, [*BY_HAND, "--field", "tier"], "'tier': must be NAME=VALUE"),
        (encode, [*BY_HAND, "--field", "tier=1"], "field 'client': value missing"),
        (encode, [*BY_HAND, "--field", "tier=gold"], "--field tier=gold: must be a number"),
        (encode, [*BY_HAND, "--client", "acme"], "--cluster and --client need --config"),
    ],
)
def test_usage_errors_exit_with_two(command: Any, args: list[str], message: str) -> None:
    """What is wrong on the command line exits with 2 and says what would be right."""
    result = run(command, *args)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--cluster", "mail"], "--cluster: name one of legacy, web"),
        (["--client", "nobody"], "no client has the name or id 'nobody'"),
        (["--field", "tier=silver"], "must be a number or one of blocked, gold, standard"),
        (["--field", "tier=16"], "field 'tier': value 16 is out of range (0 to 15 fits its bits)"),
        (["--field", "age=1"], "the layout has no field age"),
        (["--cluster", "legacy", "--field", "tier=1"], "legacy is an IPv4 cluster"),
        (["--prefix", "2001:db8::/64"], "--prefix: not with --config, which knows the format"),
    ],
)
def test_unknown_names_are_refused(node: Path, args: list[str], message: str) -> None:
    """What the site does not have exits with 2 and names what it has."""
    result = run(encode, "--config", node, *args)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_missing_database_is_not_created(tmp_path: Path) -> None:
    """Decoding with a node file that has no database yet says how to make one, and makes none."""
    shutil.copy(ROOT.parent / "examples" / "node.toml", tmp_path / "node.toml")
    result = run(decode, "::1", "--config", tmp_path / "node.toml")
    assert isinstance(result.exception, StoreError)
    assert "dnsvip apply" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["node.toml"]
