"""`dnsvip apply` as an operator runs it: the example as it stands, twice, altered, broken, raced."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dnsvip.cli import main
from dnsvip.site import Client, ClientState
from dnsvip.site.plan import Change
from dnsvip.store import KeyEncryptionKey, Store

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the examples."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples"))


@pytest.fixture
def apply(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `dnsvip apply site.toml --config node.toml` with more arguments, in this process."""
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = ["apply", "site.toml", "--config", "node.toml", *arguments]
        with pytest.raises(SystemExit) as ended:
            main(argv)
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(argv, int(ended.value.code or 0), out, err)

    return run


def edit(path: Path, old: str, new: str) -> None:
    """Replace a piece of a file that must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


async def _with_store(folder: Path, work: Callable[[Store], object]) -> object:
    store = await Store.open(f"sqlite:///{folder}/dnsvip.db", KeyEncryptionKey.load(folder / "dnsvip.key", {}))
    try:
        return await work(store)  # type: ignore[misc]
    finally:
        await store.close()


def test_a_user_without_a_name(apply: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no entry in passwd, as in a container that runs under any number, applies and restores by that."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_017)
    assert apply().returncode == 0
    for argv in (("backup", "all"), ("restore", "all", "--replace")):
        with pytest.raises(SystemExit) as ended:
            main([*argv, "--config", "node.toml"])
        assert not ended.value.code

    async def actors(store: Store) -> set[str]:
        return {row.actor for row in await store.audit.rows()}

    who = asyncio.run(_with_store(folder, actors))
    assert who == {"uid 4000000017 (apply)", "uid 4000000017 (restore)"}


def test_a_missing_key_is_not_replaced(apply: Run, folder: Path) -> None:
    """Beside a database no new key is made: the message names the file and what to do, and nothing has changed."""
    assert apply().returncode == 0
    key = (folder / "dnsvip.key").read_bytes()
    (folder / "dnsvip.key").unlink()
    refused = apply()
    assert refused.returncode == 1
    assert "dnsvip.key is missing" in refused.stderr
    assert "copy the file" in refused.stderr
    assert not (folder / "dnsvip.key").exists()
    (folder / "dnsvip.key").write_bytes(key)
    (folder / "dnsvip.key").chmod(0o600)
    assert apply().stdout == "nothing to change (generation 1)\n"


def test_a_key_beside_an_empty_file(apply: Run, folder: Path) -> None:
    """A database that has not been set up yet gets its key."""
    (folder / "dnsvip.db").touch(mode=0o600)
    assert apply().returncode == 0
    assert (folder / "dnsvip.key").exists()


def test_example_works_as_it_stands(apply: Run) -> None:
    """The example is applied with no set-up at all, and a second time there is nothing to change."""
    first = apply()
    assert first.returncode == 0, first.stderr
    assert "+ cluster.web\n    prefix = " in first.stdout
    assert first.stdout.endswith("12 made, 1 altered; applied as generation 1\n")
    assert first.stderr == (
        "warning: cluster.legacy: IPv4 classes are not authenticated: any client can use any class\n"
    )
    second = apply()
    assert (second.returncode, second.stdout) == (0, "nothing to change (generation 1)\n")


def test_plan_shows_old_and_new_and_no_secret(apply: Run, folder: Path) -> None:
    """Altered fields are shown old -> new; secrets and zone texts only as changed; what vanished as removed."""
    assert SECRET not in apply().stdout
    site = folder / "site.toml"
    edit(site, "dscp = 34", "dscp = 46")
    edit(site, SECRET, "bmV3" + SECRET)
    edit(site, "weight = 50", "weight = 60")
    edit(site, "ttl = 60", "ttl = 30")
    edit(site, '[client.newsreader]\nid = 1002\ntier = "standard"\nmatch = [{ source = "203.0.113.0/24" }]', "")
    edit(folder / "example.test.zone", "192.0.2.25", "192.0.2.26")
    done = apply()
    assert done.stdout == (
        "~ cluster.web\n    ttl: 60 -> 30\n"
        "~ tier.gold\n    dscp: 34 -> 46\n"
        "~ pool.slow\n    servers.slow-2.weight: 50 -> 60\n"
        "~ zone.example.test\n    serial 2026112301 (unchanged)\n    ~ mail A 192.0.2.25 -> 192.0.2.26\n"
        "~ tsig.acme-key\n    secret: (changed)\n"
        "- client.newsreader\n"
        "5 altered, 1 removed; applied as generation 2\n"
    )


def test_json_says_the_same(apply: Run, folder: Path) -> None:
    """--json gives plan, outcome and warnings as data, without secrets."""
    apply()
    edit(folder / "site.toml", "dscp = 34", "dscp = 46")
    edit(folder / "site.toml", SECRET, "bmV3" + SECRET)
    done = apply("--json")
    assert SECRET not in done.stdout
    outcome = json.loads(done.stdout)
    assert outcome["applied"] is True
    assert outcome["generation"] == 2
    assert outcome["changes"] == [
        {"action": "~", "kind": "tier", "name": "gold", "fields": {"dscp": {"old": 34, "new": 46}}},
        {
            "action": "~",
            "kind": "tsig",
            "name": "acme-key",
            "fields": {"secret": {"old": "(secret)", "new": "(changed)"}},
        },
    ]
    assert [warning["where"] for warning in outcome["warnings"]] == ["cluster.legacy"]
    assert json.loads(apply("--json").stdout)["applied"] is False


def test_dry_run_changes_nothing(apply: Run, folder: Path) -> None:
    """A dry run shows the plan; without a database it does not even make one."""
    before = sorted(os.listdir(folder))
    done = apply("--dry-run")
    assert done.stdout.endswith("12 made, 1 altered; dry run, nothing applied\n")
    assert sorted(os.listdir(folder)) == before
    apply()
    edit(folder / "site.toml", "dscp = 34", "dscp = 46")
    for _ in range(2):
        assert apply("--dry-run").stdout.endswith("1 altered; dry run, nothing applied\n")
    assert apply().stdout.endswith("applied as generation 2\n")


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("file", "right", "wrong", "message"),
    [
        ("site.toml", "code = 15", "code = 16", "site.toml: tier.blocked.code: code in cluster 'web' is 16"),
        ("site.toml", 'pool = "fast"', 'pool = "fsat"', "'fsat' is not a pool of this site; did you mean 'fast'?"),
        ("site.toml", "[cluster.web]", "[cluster.web", "site.toml: is not TOML: "),
        ("site.toml", "example.test.zone", "nope.zone", "zone.example.test.file: cannot read nope.zone: No such file"),
        ("example.test.zone", "192.0.2.25", "192.0.2.256", "site.toml: zone.example.test: line 11: "),
        ("example.test.zone", "shop    IN CNAME www", "www IN NS ns1", "www.example.test: no query can reach it"),
        ("node.toml", "sqlite:", "mysql:", "node.toml: database: 'mysql': must be \"sqlite:///FILE\""),
    ],
)
def test_wrong_files_change_nothing(
    apply: Run, folder: Path, arguments: tuple[str, ...], file: str, right: str, wrong: str, message: str
) -> None:
    """Whatever is wrong in any file, exit code 2, file and place named, and the site stays as it was."""
    apply()
    edit(folder / "site.toml", "dscp = 34", "dscp = 46")
    edit(folder / file, right, wrong)
    done = apply(*arguments)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert done.stdout == ""
    edit(folder / file, wrong, right)
    edit(folder / "site.toml", "dscp = 46", "dscp = 34")
    assert apply().stdout == "nothing to change (generation 1)\n"


def test_clash_with_what_the_api_made(apply: Run, folder: Path) -> None:
    """A site that clashes with an object of the API is refused under the name of the file, both parties named."""
    apply()
    made = Client("from-api", 2000, "gold")
    asyncio.run(
        _with_store(
            folder, lambda store: store.objects.apply([Change("client", made.name, "+", None, made)], "t", "api")
        )
    )
    edit(folder / "site.toml", "id = 1002", "id = 2000")
    done = apply()
    assert done.returncode == 2
    assert "site.toml: client.newsreader.id: 2000 belongs to client.from-api already" in done.stderr


def test_api_objects_and_states_outlive_an_apply(apply: Run, folder: Path) -> None:
    """Clients of the API and states set while running are kept by the next apply."""
    apply()

    async def alter(store: Store) -> None:
        acme = await store.objects.get("client", "acme")
        assert isinstance(acme, Client)
        made = Client("from-api", 2000, "gold")
        revoked = replace(acme, state=ClientState.REVOKED)
        changes = [Change("client", made.name, "+", None, made), Change("client", "acme", "~", acme, revoked)]
        await store.objects.apply(changes, "t", "api")

    async def look(store: Store) -> dict[str, Client]:
        return dict((await store.objects.site()).clients)

    asyncio.run(_with_store(folder, alter))
    edit(folder / "site.toml", 'lang = "fr"', 'lang = "en"')
    assert apply().stdout.startswith('~ client.acme\n    attributes.lang: "fr" -> "en"\n1 altered')
    clients = asyncio.run(_with_store(folder, look))
    assert isinstance(clients, dict)
    assert set(clients) == {"acme", "newsreader", "from-api"}
    assert clients["acme"].state is ClientState.REVOKED


def test_applies_that_race_all_succeed(apply: Run, folder: Path) -> None:
    """Five applies at once end with the site applied once."""
    argv = [sys.executable, "-m", "dnsvip", "apply", "site.toml", "--config", "node.toml"]
    racing = [subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    outputs = [process.communicate()[0].splitlines()[-1] for process in racing]
    assert [process.returncode for process in racing] == [0] * 5
    assert sorted(outputs) == [
        "12 made, 1 altered; applied as generation 1",
        *["nothing to change (generation 1)"] * 4,
    ]
    assert apply().stdout == "nothing to change (generation 1)\n"


def test_included_files(apply: Run, folder: Path) -> None:
    """What a zone file includes is stored in its place; a fault in it is named with its file; warnings follow."""
    zone = folder / "example.test.zone"
    with zone.open("a") as file:
        file.write("$INCLUDE hosts.db hosts\n@ NS nowhere\nwww AAAA 2001:db8::1\n")
    (folder / "hosts.db").write_text("a A 192.0.2.300\n")
    refused = apply()
    assert refused.returncode == 2
    assert "zone.example.test: line 1 of hosts.db: 'a A 192.0.2.300' cannot be read" in refused.stderr
    (folder / "hosts.db").unlink()
    assert "hosts.db: No such file or directory" in apply().stderr
    (folder / "hosts.db").write_text("a A 192.0.2.30\n")
    done = apply()
    assert done.returncode == 0, done.stderr
    assert "nowhere.example.test. is a name server of the zone and lies in it" in done.stderr
    assert "www.example.test: its AAAA records in zone example.test are not served" in done.stderr
    stored = asyncio.run(_with_store(folder, lambda store: store.objects.get("zone", "example.test")))
    assert "$ORIGIN hosts.example.test. ; $INCLUDE hosts.db\na A 192.0.2.30\n" in stored.text  # type: ignore[attr-defined]
