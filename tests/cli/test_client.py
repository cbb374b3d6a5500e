"""`dnsvip client` from the operator's database to the client's command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dnsvip.address.proof import client_key
from dnsvip.cli import root
from dnsvip.client.io.files import load
from dnsvip.errors import ClientError
from dnsvip.site import Client, ClientState, Cluster, Snapshot
from dnsvip.site.io.files import load_node, load_site
from dnsvip.site.plan import Change, plan
from dnsvip.store import AuditRow, KeyEncryptionKey, Store

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node file of a database that holds the example site."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DNSVIP_ENROLMENT", raising=False)
    path = tmp_path / "node.toml"
    path.write_text('database = "sqlite:///dnsvip.db"\n')
    change(path, lambda snapshot: plan(snapshot.site, load_site(EXAMPLES / "site.toml"), {}))
    return path


def change(node: Path, changes: Callable[[Snapshot], tuple[Change, ...]]) -> Snapshot:
    async def apply() -> Snapshot:
        config = load_node(node)
        store = await Store.open(config.database, KeyEncryptionKey.load(config.key_file, {}))
        try:
            await store.objects.apply(changes(await store.snapshots.load()), "test", "api")
            return await store.snapshots.load()
        finally:
            await store.close()

    return asyncio.run(apply())


def enrolments(node: Path) -> list[AuditRow]:
    async def read() -> list[AuditRow]:
        config = load_node(node)
        store = await Store.open(config.database, KeyEncryptionKey.load(config.key_file, {}))
        try:
            return await store.audit.rows(about={"kind": "enrolment"})
        finally:
            await store.close()

    return asyncio.run(read())


def alter(node: Path, **fields: object) -> Snapshot:
    def changes(snapshot: Snapshot) -> tuple[Change, ...]:
        before = snapshot.site.clients["acme"]
        after: Client = replace(before, **fields)  # type: ignore[arg-type]
        return (Change("client", "acme", "~", before, after),)

    return change(node, changes)


def run(*words: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(root, ["client", *map(str, words)], input=text)


def enrol(node: Path, name: str = "acme", *more: str | Path) -> Result:
    return run("enrol", name, "--config", node, "--server", "192.0.2.53:53", "--server", "[2001:db8:53::1]:53", *more)


def test_enrol_and_import(node: Path, tmp_path: Path) -> None:
    """An operator's file holds the key of the client's present generation, and the client keeps it privately."""
    snapshot = alter(node, key_generation=2)
    output = tmp_path / "acme.json"
    done = enrol(node, "acme", "--output", output)
    assert done.exit_code == 0, done.output
    assert "www.example.test" in done.output
    assert output.stat().st_mode & 0o777 == 0o600
    (row,) = enrolments(node)
    assert (row.name, row.actor.partition(" ")[0], row.after) == (
        "acme",
        "cli",
        {"key_generation": 2, "servers": ["192.0.2.53:53", "[2001:db8:53::1]:53"], "token": False},
    )
    output.chmod(0o644)  # as it may arrive by mail
    taken = run("import", output)
    assert taken.exit_code == 0, taken.output
    home = tmp_path / "home" / "dnsvip" / "enrolment.json"
    assert str(home) in taken.output
    enrolment = load(home)
    (cluster,) = enrolment.clusters
    assert cluster.proof
    assert cluster.proof.key == client_key(snapshot.masters["web"], cluster.address_layout, 1001, 2)
    assert cluster.proof.key.hex() not in done.output + taken.output


def test_through_a_pipe(node: Path, tmp_path: Path) -> None:
    """Without --output the document goes to standard output, and import takes it from standard input."""
    done = enrol(node)
    assert json.loads(done.stdout)["client"] == "acme"
    target = tmp_path / "elsewhere.json"
    taken = run("import", "-", "--enrolment", target, text=done.stdout)
    assert taken.exit_code == 0, taken.output
    assert load(target).servers == ("192.0.2.53:53", "[2001:db8:53::1]:53")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("nobody", {}, "'nobody' is not a client of this site (there is: acme, newsreader)"),
        ("acme", {"state": ClientState.REVOKED}, "'acme' is revoked"),
    ],
)
def test_enrol_refused(node: Path, name: str, fields: dict[str, object], message: str) -> None:
    """An unknown or a revoked client gets no enrolment."""
    if fields:
        alter(node, **fields)
    refused = enrol(node, name)
    assert refused.exit_code == 1
    assert isinstance(refused.exception, ClientError)
    assert message in str(refused.exception)
    assert refused.stdout == ""


def test_enrol_without_a_database(tmp_path: Path) -> None:
    """Where no site was applied yet, enrol says so and makes no database."""
    (tmp_path / "node.toml").write_text('database = "sqlite:///dnsvip.db"\n')
    refused = enrol(tmp_path / "node.toml")
    assert refused.exit_code == 1
    assert "no database yet" in str(refused.exception)
    assert not (tmp_path / "dnsvip.db").exists()


def test_cautions_go_to_standard_error(node: Path) -> None:
    """A client without a TSIG identity is enrolled, with a word of caution beside the document."""
    done = enrol(node, "newsreader")
    assert json.loads(done.stdout)["tsig"] is None
    assert "caution: client 'newsreader' has no TSIG identity" in done.stderr


@pytest.mark.parametrize("server", ["192.0.2.53", "2001:db8::1:53", "ns1.example.test:53", "192.0.2.53:dns"])
def test_wrong_server(node: Path, server: str) -> None:
    """A server that is not ADDRESS:PORT is a usage error that shows the right form."""
    refused = run("enrol", "acme", "--config", node, "--server", server)
    assert refused.exit_code == 2
    assert server in refused.stderr


def test_enrol_for_encrypted_servers(node: Path, tmp_path: Path) -> None:
    """What servers are verified by is in the enrolment, and refused where it is none; a server in plain text behind an
    encrypted one is named."""
    server, plain = "tls://192.0.2.53:853#dns.example.test", "192.0.2.53:53"
    words = ("enrol", "acme", "--config", node, "--server", server, "--server", plain)
    pin = "A" * 43 + "="
    done = run(*words, "--pin", pin)
    document = json.loads(done.stdout)
    assert (document["trust"]["pins"], document["servers"]) == ([pin], [server, plain])
    assert f"caution: {plain} is not asked in plain text" in done.stderr
    assert json.loads(run(*words, "--plaintext-fallback").stdout)["plaintext_fallback"] is True
    (tmp_path / "ca.pem").write_text("nothing")
    for more, what in ((("--pin", "abc"), "trust.pins.0"), (("--ca", tmp_path / "ca.pem"), "trust.ca")):
        refused = run(*words, *more)
        assert refused.exit_code != 0
        assert what in str(refused.exception) + refused.stderr


def test_wrong_import_leaves_what_was(node: Path, tmp_path: Path) -> None:
    """A file that is no enrolment is refused and the imported one stays."""
    assert run("import", "-", text=enrol(node).stdout).exit_code == 0
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"version": 1}')
    refused = run("import", wrong)
    assert isinstance(refused.exception, ClientError)
    assert f"{wrong}: client: missing" in str(refused.exception)
    assert load(tmp_path / "home" / "dnsvip" / "enrolment.json").client == "acme"


def test_resolve_without_enrolment(node: Path) -> None:
    """Without an enrolment names resolve as the system does, and the answer says that nothing is proven."""
    resolved = run("resolve", "localhost", "--json")
    assert resolved.exit_code == 0, resolved.output
    answer = json.loads(resolved.stdout)
    assert (answer["proven"], answer["why"]) == (False, "not-enrolled")
    assert answer["address"] in ("::1", "127.0.0.1")


@pytest.mark.parametrize("command", [["resolve", "www.example.test"], ["exec", "true"], ["stub"]])
@pytest.mark.parametrize(
    ("claim", "status", "message"),
    [
        ("content", 2, "must be NAME=VALUE, such as content=video"),
        ("hat=1", 1, "claim 'hat': no cluster of the enrolment has it (there is: content)"),
        ("content=film", 1, "claim content=film: cluster 'web' knows video, page"),
    ],
)
def test_wrong_claims(node: Path, command: list[str], claim: str, status: int, message: str) -> None:
    """A claim that no cluster knows, or with a value that is none of its words, is refused before anything is asked."""

    def claiming(snapshot: Snapshot) -> tuple[Change, ...]:
        web = snapshot.site.clusters["web"]
        assert isinstance(web, Cluster)
        layout = (("tier", 4), ("client", 20), ("expiry", 7), ("nonce", 2))
        after = replace(
            web, layout=layout, claims=(("content", 4),), values={"content": {"video": 1, "page": 2}}, select=()
        )
        return (Change("cluster", "web", "~", web, after),)

    change(node, claiming)
    assert run("import", "-", text=enrol(node).stdout).exit_code == 0
    refused = run(command[0], "--claim", claim, *command[1:])
    assert refused.exit_code == status
    assert message in refused.output + str(refused.exception)


def test_exec_passes_arguments_on(node: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The command's own options reach it, with and without --, and its status is ours."""
    for dashes in ([], ["--"]):
        done = run("exec", *dashes, "sh", "-c", "echo --enrolment $1; exit 3", "x", "--hosts")
        assert done.exit_code == 3
        assert capfd.readouterr().out == "--enrolment --hosts\n"
