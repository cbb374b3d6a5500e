"""The nouns of explaining, audit, keys of TSIG, classification, tokens and bulk, against a real node."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.cli.test_nouns import as_json, ok
from tests.node.serving import DNSVIP, Node, node, within


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node with the example site for all tests here, which change different objects."""
    with node(tmp_path_factory.mktemp("more")) as server:
        server.apply()
        server.start("--token-file", "token")
        yield server


def test_search(served: Node) -> None:
    """A text leads to objects of every kind, an address to what it means; what is not found is said."""
    text = ok(served, "search", "acme")
    assert re.search(r"client\tacme\t", text)
    assert re.search(r"tsig\tacme-key", text)
    assert re.search(r"client\tacme\t\tclaims 198.51.100.7", ok(served, "search", "198.51.100.7"))
    assert re.search(r"server\tslow-1\tslow\t", ok(served, "search", "fd00:10::21"))
    assert "Nothing has 'nowhere' in it" in ok(served, "search", "nowhere")
    assert as_json(served, "search", "example", "--limit", "1")["more"]


def test_explain(served: Node) -> None:
    """Who is asking, why, the answer and where it leads are told; --json is the API's answer."""
    text = ok(served, "explain", "www.example.test", "--source", "127.0.0.1", "--ecs", "198.51.100.7")
    assert "client acme (id 1001), tier gold, by ecs" in text
    assert "the query carries none" in text
    assert "to server fast-1 of pool fast" in text
    assert "nobody that is known" in ok(served, "explain", "www.example.test", "A", "--source", "192.0.2.9")
    assert as_json(served, "explain", "www.example.test", "--source", "::1")["client"] is None
    wrong = served.noun("explain", "www.example.test", "--source", "x")
    assert (wrong.returncode, "explain.source" in wrong.stderr) == (2, True)


def test_audit_and_history(served: Node) -> None:
    """A change stands in the audit and in its client's history, with old and new value."""
    ok(served, "clients", "move", "newsreader", "gold")
    for argv in (("audit", "--kind", "client", "--action", "changed"), ("clients", "history", "newsreader")):
        lines = ok(served, *argv, "--limit", "1").splitlines()
        assert 'client newsreader\tchanged\ttier: "standard" -> "gold"' in lines[1]
        assert "token first" in lines[1]
    assert len(as_json(served, "audit", "--name", "newsreader")) == 2
    assert served.noun("audit", "--since", "yesterday").returncode == 2


def test_tsig(served: Node, tmp_path: Path) -> None:
    """A key is made and printed once in the form that dig takes, and its secret is shown by nothing else."""
    created = ok(served, "tsig", "add", "new-key")
    (tmp_path / "key").write_text(created)
    assert ok(served, "tsig", "list").splitlines()[-1] == "new-key\thmac-sha256"
    secret = created.split('"')[3]
    assert secret not in ok(served, "tsig", "show", "new-key")
    assert served.noun("tsig", "add", "new-key").returncode == 5
    question = "-k", str(tmp_path / "key"), "AAAA", "www.example.test"
    within(5, lambda: served.dig(*question) == "2001:db8:a:1::1")  # the node takes the key with its next snapshot
    ok(served, "tsig", "delete", "new-key")


def test_classify(served: Node) -> None:
    """The order can be seen and changed."""
    before = as_json(served, "classify", "show")["order"]
    changed = as_json(served, "classify", "set", f"order={json.dumps(before[::-1])}")
    assert changed["order"] == before[::-1]
    assert served.noun("classify", "set", "order=[1]").returncode == 2


def test_tokens_with_rights(served: Node) -> None:
    """A token made with scopes may just that; it is changed, renewed and told of."""
    argv = ["--scope", "read:client,tier", "--clients", "ac*", "--expires-in", "2h", "--per-minute", "100"]
    argv += [
        "--tiers",
        "gold",
        "--tsig",
        "ac*",
        "--tsig",
        "x",
        "--match-network",
        "192.0.2.0/24",
        "--attributes",
        "lang=*",
    ]
    clear = ok(served, "tokens", "create", "narrow", *argv, "--network", "127.0.0.0/8").strip()
    env = {"DNSVIP_API": f"127.0.0.1:{served.api}", "DNSVIP_TOKEN": clear}
    assert served.dnsvip("clients", "show", "acme", env=env).returncode == 0
    refused = served.dnsvip("clients", "move", "acme", "gold", env=env)
    assert (refused.returncode, "lacks the scope write:client" in refused.stderr) == (1, True)
    assert (
        "read:client,tier clients=ac* tiers=gold tsig=ac*,x networks=192.0.2.0/24 attributes=lang=*"
        in served.dnsvip("tokens", "whoami", env=env).stdout
    )
    shown = as_json(served, "tokens", "show", "narrow")
    assert (shown["networks"], shown["per_minute"]) == (["127.0.0.0/8"], 100)
    assert shown["expires_at"] == pytest.approx(shown["created_at"] + 7200, abs=60)
    ok(served, "tokens", "set", "narrow", "--role", "operator")
    assert served.dnsvip("clients", "move", "acme", "gold", env=env).returncode == 0
    fresh = ok(served, "tokens", "rotate", "narrow").strip()
    assert served.dnsvip("tokens", "whoami", env=env).returncode == 1
    assert served.dnsvip("tokens", "whoami", env=env | {"DNSVIP_TOKEN": fresh}).returncode == 0
    assert "narrow\toperator\t127.0.0.0/8" in ok(served, "tokens", "list")
    assert served.noun("tokens", "create", "x", "--zones", "a").returncode == 2
    assert served.noun("tokens", "create", "x", "--match-network", "192.0.2.0/24").returncode == 2
    assert served.noun("tokens", "create", "x", "--scope", "nonsense").returncode == 2


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_bulk(served: Node, tmp_path: Path, kind: str) -> None:
    """Clients go out to a file and in again, by name or through a pipe; a refused line is named and exits 2."""
    file = tmp_path / f"clients.{kind}"
    ok(served, "clients", "export", "--output", str(file))
    assert "0 made, 0 changed, 2 unchanged, 0 failed; nothing stored" in ok(served, "clients", "import", str(file))
    bad = tmp_path / "bad.ndjson"
    bad.write_text('{"name": "x", "id": 50, "tier": "gold"}\n{"name": "y", "id": 50, "tier": "gold"}\n')
    spoilt = served.noun("clients", "import", str(bad))
    assert (spoilt.returncode, "line 2: client.y: id 50 belongs to client.x" in spoilt.stderr) == (2, True), spoilt
    assert served.noun("clients", "show", "x").returncode == 4
    left = served.noun("clients", "import", str(bad), "--per-line", "--dry-run", "--json")
    assert (left.returncode, json.loads(left.stdout)["made"]) == (2, 1)
    assert served.noun("clients", "import", "nowhere").returncode == 2


@pytest.mark.parametrize("argv", [("clients", "export"), ("clients", "list"), ("tokens", "list", "--json")])
def test_an_output_that_is_full(served: Node, argv: tuple[str, ...]) -> None:
    """Where standard output takes no more, one line says that not all of it is there, and the exit code is 1."""
    env = {**os.environ, "DNSVIP_API": f"127.0.0.1:{served.api}", "DNSVIP_TOKEN": served.token}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([DNSVIP, *argv], check=False, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    said = "error: the output cannot be written: No space left on device; what is there is not all of it\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_reader_that_goes(served: Node) -> None:
    """Where the reader of an export goes away, it ends without a word, and the exit code is 1."""
    env = {**os.environ, "DNSVIP_API": f"127.0.0.1:{served.api}", "DNSVIP_TOKEN": served.token}
    with subprocess.Popen(
        [DNSVIP, "clients", "export"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as export:
        assert export.stdout
        assert export.stderr
        export.stdout.close()
        assert (export.stderr.read(), export.wait(60)) == ("", 1)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_full_disk_of_the_node(tmp_path: Path, streamed: bool) -> None:
    """An import that a node refuses with 507, at once or after progress, is told in its words; the exit code is 1."""
    problem = {"title": "A disk is full", "status": 507, "detail": "the disk of /srv is full; free some disk space"}

    class Full(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            while (size := int(self.rfile.readline(), 16)) or self.rfile.readline() == b"":
                self.rfile.read(size + 2)
            body = json.dumps({"problem": problem} if streamed else problem).encode() + b"\n"
            self.send_response(200 if streamed else 507)
            self.send_header("Content-Type", "application/x-ndjson" if streamed else "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    (tmp_path / "some.ndjson").write_text('{"name": "x", "id": 50, "tier": "gold"}\n')
    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        Thread(target=server.serve_forever).start()
        env = {**os.environ, "DNSVIP_API": f"127.0.0.1:{server.server_port}", "DNSVIP_TOKEN": "dnsvip_x"}
        argv = [DNSVIP, "clients", "import", tmp_path / "some.ndjson"]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env, timeout=60)
        server.shutdown()
    assert (done.returncode, done.stderr) == (1, f"error: {problem['detail']}\n")


def test_export_replaces_a_file_whole(served: Node, tmp_path: Path) -> None:
    """An exported file is readable as the umask allows; a refused export changes nothing and leaves no draft."""
    file = tmp_path / "clients.ndjson"
    file.write_text("previous")
    refused = served.noun("clients", "export", "--state", "nonsense", "--output", str(file))
    assert refused.returncode != 0
    assert (file.read_text(), os.listdir(tmp_path)) == ("previous", [file.name])
    umask = os.umask(0o027)
    try:
        ok(served, "clients", "export", "--output", str(file))
    finally:
        os.umask(umask)
    assert {json.loads(line)["name"] for line in file.read_text().splitlines()} == {"acme", "newsreader"}
    assert (file.stat().st_mode & 0o777, os.listdir(tmp_path)) == (0o640, [file.name])
    nowhere = served.noun("clients", "export", "--output", str(tmp_path / "missing" / "clients.csv"))
    assert (nowhere.returncode, "cannot be written" in nowhere.stderr) == (2, True), nowhere.stderr
    assert "create the folder first" in nowhere.stderr


SOME = {
    "tiers list --pool fast": ["gold"],
    "tiers list --action drop": ["blocked"],
    "pools list --forward direct --prefix s": ["slow"],
    "pools list --fallback slow": [],
    "clusters list --default-tier standard --prefix w": ["web"],
    "services list --cluster legacy": ["www.example.test"],
    "tsig list --client acme --tier gold": ["acme-key"],
    "servers list --pool slow --state up": ["slow-1", "slow-2"],
    "servers list --state drain": [],
    "servers health --state up --node nobody": [],
    "nodes list --role dispatch": [],
    "nodes list --silent": [],
    "tokens list --expired": [],
    "tokens list --config node.toml --expired": [],
    "zones records example.test --type mx": ["example.test."],
    "records list example.test --at mail --type A": ["mail.example.test."],
    "records list example.test --at @ --type mx": ["example.test."],
    "zones records example.test --at mail.example.test --type A": ["mail.example.test."],
}


@pytest.mark.parametrize("line", SOME)
def test_filters_of_each_list(served: Node, line: str) -> None:
    """Each list takes the filters that the API has for it."""
    call = served.dnsvip if "--config" in line else served.noun
    done = call(*line.split(), "--json")
    assert done.returncode == 0, done.stderr
    assert [each["name"] for each in json.loads(done.stdout)] == SOME[line]


def test_lists_with_filters(served: Node) -> None:
    """Lists take the filters and orders of the API."""
    assert len(as_json(served, "clients", "list", "--match", "2001:db8:77::1")) == 1
    assert [c["name"] for c in as_json(served, "clients", "list", "--sort", "-id")] == ["newsreader", "acme"]
    assert as_json(served, "clients", "list", "--prefix", "z") == []
    assert [t["name"] for t in as_json(served, "tiers", "list", "--prefix", "g")] == ["gold"]


def test_records(served: Node) -> None:
    """Records are set, added and removed by names as in a zone file; what the zone cannot hold is refused."""

    def shown(name: str) -> list[tuple[int, list[str]]]:
        sets = as_json(served, "records", "list", "example.test", "--at", name, "--type", "A")
        return [(one["ttl"], sorted(record["content"] for record in one["records"])) for one in sets]

    done = served.noun("records", "set", "example.test", "www.dev", "a", "192.0.2.7", "--ttl", "300")
    assert done.stdout == "zone example.test: www.dev.example.test. A set\n", done.stderr
    assert served.noun("records", "add", "example.test", "www.dev.example.test.", "A", "192.0.2.8").returncode == 0
    assert shown("www.dev") == [(300, ["192.0.2.7", "192.0.2.8"])]
    assert served.noun("records", "remove", "example.test", "www.dev.example.test", "A", "192.0.2.7").returncode == 0
    assert shown("www.dev") == [(300, ["192.0.2.8"])]
    refused = served.noun("records", "add", "example.test", "www.dev", "A", "192.0.2.999")
    assert refused.returncode == 2
    assert "192.0.2.999" in refused.stderr
    assert served.noun("records", "add", "example.test", "new", "TXT", '"a text"').returncode == 0
    for name, rtype in (("www.dev", "A"), ("new", "TXT")):
        assert served.noun("records", "remove", "example.test", name, rtype).returncode == 0
    assert shown("www.dev") == []


def test_preview_of_a_cluster(served: Node) -> None:
    """A cluster that is there is shown with the changes, one that is not by what is given; neither is stored."""
    as_it_is = as_json(served, "clusters", "preview", "web")
    changed = as_json(served, "clusters", "preview", "web", "expiry_unit=1200")
    assert changed["expiry_seconds"] > as_it_is["expiry_seconds"]
    assert as_json(served, "clusters", "preview", "web")["expiry_seconds"] == as_it_is["expiry_seconds"]
    new = "prefix=2001:db8:b::/64", "tag_bits=24", 'layout=[["tier", 4], ["client", 16], ["expiry", 6], ["nonce", 11]]'
    assert 'address = "2001:db8:b:0:' in ok(served, "clusters", "preview", "new", *new)
    assert served.noun("clusters", "show", "new").returncode == 4
    assert served.noun("clusters", "preview", "web", "tag_bits=20").returncode == 2


def test_addresses_of_a_client(served: Node) -> None:
    """What a client is answered is told with where it leads."""
    shown = as_json(served, "clients", "addresses", "acme")
    row = next(row for row in shown if row["service"] == "www.example.test" and ":" in row["address"])
    assert (row["tier"], row["servers"][0]["server"]) == ("gold", "fast-1")
    assert "www.example.test\t2001:db8:a:1:" in ok(served, "clients", "addresses", "acme")
    assert served.noun("clients", "addresses", "nobody").returncode == 4


def test_audit_by_change(served: Node, tmp_path: Path) -> None:
    """An import is one line, whose rows its generation shows."""
    (tmp_path / "nine.csv").write_text("name,id,tier\n" + "".join(f"i{n},{3000 + n},gold\n" for n in range(9)))
    ok(served, "clients", "import", str(tmp_path / "nine.csv"))
    (newest,) = as_json(served, "audit", "--changes", "--kind", "client", "--limit", "1")
    line = ok(served, "audit", "--changes", "--limit", "1").splitlines()[1].split("\t")
    assert line[3:] == ["9", "client i8, i7, i6 and 6 more made", str(newest["generation"])]
    assert len(as_json(served, "audit", "--generation", str(newest["generation"]))) == 9
    assert as_json(served, "audit", "--changes", "--until", "2001-01-01T00:00:00Z") == []
