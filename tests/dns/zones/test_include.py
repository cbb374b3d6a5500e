"""`$INCLUDE` in zone files that a site file names: as BIND does it, inside a folder, bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnsvip.dns.protocol.names import flat_name
from dnsvip.dns.zones import include
from dnsvip.dns.zones.examine import examined_alone
from dnsvip.dns.zones.include import expanded
from dnsvip.dns.zones.zone import compile_zone
from dnsvip.site import Service, Zone
from dnsvip.site.io.files import included_files
from tests.dns.zones.judged.bind import Sets, compiled

APEX = "example.test"
HEAD = "$TTL 300\n@ SOA ns hostmaster 1 3600 900 1209600 120\n@ NS ns\nns A 192.0.2.1\n"

NESTED = {
    "zone": HEAD + "$ORIGIN shops\nfirst A 192.0.2.10\n$INCLUDE hosts.db deep ; a remark\n\n; a remark\n"
    '  TXT "of first" ; here\nlast A 192.0.2.11\n'
    + '$include "parts/two words.db"\n TXT of-last (\n more )\nend MX 1 x\n',
    "hosts.db": " AAAA 2001:db8::1\na A 192.0.2.20\n$ORIGIN b\nc A 192.0.2.21\n$INCLUDE parts/more.db\nd CNAME c\n",
    "parts/more.db": "$TTL 60\n@ A 192.0.2.30\n$INCLUDE parts/none.db .\nabs.example.test. A 192.0.2.31\n",
    "parts/none.db": "; nothing but a remark",
    "parts/two words.db": "x IN A 192.0.2.40\ny.z 5 A 192.0.2.41\r\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file outside of it."""
    (tmp_path / "outside").write_text("x A 192.0.2.66\n")
    inside = tmp_path / "site"
    (inside / "parts").mkdir(parents=True)
    return inside


def lay(folder: Path, files: dict[str, str]) -> Zone:
    """Write files; the zone in the one named "zone"."""
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return Zone(APEX, files["zone"])


def said(folder: Path, files: dict[str, str]) -> list[str]:
    """What is wrong with a zone."""
    whole = expanded(lay(folder, files), included_files(folder))
    problems = whole.problems or examined_alone(whole.zone, {}, whole.places).problems
    return [problem.message for problem in problems]


def sets_of(zone: Zone) -> Sets:
    """A zone's sets as BIND's are given."""
    return {
        (flat_name(key), rtype): (
            rrset.ttl,
            frozenset(b"".join(p if isinstance(p, bytes) else flat_name(p) for p in data) for data in rrset.rdatas),
        )
        for key, node in compile_zone(zone).nodes.items()
        for rtype, rrset in node.items()
    }


def test_as_bind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested files with and without an origin of their own: origin and owner go on after them, a `$TTL` stays."""
    whole = expanded(lay(folder, NESTED), included_files(folder))
    assert not whole.problems
    monkeypatch.chdir(folder)
    bind, text = compiled(APEX, folder / "zone")
    assert bind is not None, text
    assert sets_of(whole.zone) == bind
    assert (flat_name((b"c", b"b", b"deep", b"shops", b"example", b"test")), 1) in bind
    assert expanded(whole.zone, included_files(folder)).zone is whole.zone  # what is stored includes nothing


@pytest.mark.parametrize("parent", ["", "a A 192.0.2.2\n", "$ORIGIN o\na A 192.0.2.2\n$ORIGIN p\n"])
@pytest.mark.parametrize("child", ["", " TXT x\n", "b A 192.0.2.3\n", "$ORIGIN q\n@ A 192.0.2.4", "$TTL 7\nb TXT b\n"])
@pytest.mark.parametrize("origin", ["", " r", " s.example.test."])
@pytest.mark.parametrize("after", [" TXT y\n", "c TXT z\n"])
def test_as_bind_in_small(
    folder: Path, monkeypatch: pytest.MonkeyPatch, parent: str, child: str, origin: str, after: str
) -> None:
    """Owners and origins before, in and after an included file."""
    files = {"zone": f"{HEAD}{parent}$INCLUDE child{origin}\n{after}", "child": child}
    whole = expanded(lay(folder, files), included_files(folder))
    monkeypatch.chdir(folder)
    bind, text = compiled(APEX, folder / "zone")
    assert bind is not None, text
    assert not whole.problems
    assert sets_of(whole.zone) == bind


def test_faults_name_their_file(folder: Path) -> None:
    """Each fault names the file it is in, and the line there, before and after an included file."""
    files = {
        "zone": HEAD + "bad A 1\n$INCLUDE hosts.db\nworse A 2\nz CNAME x\n",
        "hosts.db": "x A 192.0.2.2\n$INCLUDE parts/more.db\n\nx B y\nz A 192.0.2.3",
        "parts/more.db": "q A (\n3 )\n",
    }
    starts = [message.split(" cannot be read")[0] for message in said(folder, files)]
    assert starts[:4] == [
        "line 5: 'bad A 1'",
        "line 1 of parts/more.db: 'q A   3'",
        "line 4 of hosts.db: 'x B y'",
        "line 7: 'worse A 2'",
    ]
    assert starts[4].startswith("line 8: z.example.test. has a CNAME beside other data")
    files["zone"] = HEAD + "$INCLUDE hosts.db\n"
    files["hosts.db"] = "z CNAME x\nz A 192.0.2.3\n@ SOA a b 1 2 3 4 5\n"
    assert said(folder, files) == [
        "has 2 SOA records (lines 2, 3 of hosts.db); there must be one",
        "line 2 of hosts.db: z.example.test. has a CNAME beside other data (A); a CNAME must be alone",
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("$INCLUDE", "names no file"),
        ("$INCLUDE a b c", "'c' is too much"),
        ("$INCLUDE parts/more.db a..b", "'a..b' is not a domain name"),
        ("$INCLUDE nope.db", "nope.db: No such file or directory"),
        ("$INCLUDE parts", "parts is no regular file"),
        ("$INCLUDE pipe", "pipe is no regular file"),
        ("$INCLUDE ../outside", "../outside must be a path inside the site file's folder"),
        ("$INCLUDE parts/../../outside", "must be a path inside the site file's folder"),
        ("$INCLUDE /etc/hostname", "/etc/hostname must be a path inside the site file's folder"),
        ("$INCLUDE link", "link is a link out of the site file's folder"),
        ("$INCLUDE linked/outside", "linked/outside is a link out of the site file's folder"),
        ("$INCLUDE zöne", "must be ASCII and have no escapes"),
        ("$INCLUDE open.db", "line 2 of open.db: 'x TXT (' cannot be read: unbalanced parentheses"),
        ("$INCLUDE self.db", "line 1 of self.db: '$INCLUDE self.db' cannot be read: self.db includes itself"),
        ("$INCLUDE mark.db", "begins with a byte order mark"),
        ("$INCLUDE deep0.db", "line 1 of deep6.db: '$INCLUDE deep7.db' cannot be read: is nested too deeply"),
        ("$INCLUDE large.db", "makes the zone longer than 1000 characters"),
    ],
)
def test_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, why: str) -> None:
    """What cannot be included is said with its line, and nothing outside of the folder is read."""
    monkeypatch.setattr(include, "MOST_CHARACTERS", 1000)
    (folder / "link").symlink_to("../outside")
    (folder / "linked").symlink_to("..")
    os.mkfifo(folder / "pipe")
    files = {f"deep{n}.db": f"$INCLUDE deep{n + 1}.db\n" for n in range(10)}
    files |= {"self.db": "$INCLUDE self.db\n", "mark.db": "\ufeffx A 192.0.2.9\n", "open.db": "\nx TXT (\n\n"}
    messages = said(folder, {"zone": f"{HEAD}{line}\n", "parts/more.db": "", "large.db": ";" * 1000, **files})
    assert len(messages) == 1, messages
    assert why in messages[0]
    assert messages[0].startswith(("line 5: '$INCLUDE", "line 1 of ", "line 2 of "))


def test_an_owner_that_is_missing(folder: Path) -> None:
    """A record without an owner has none from a file that was included before it."""
    messages = said(folder, {"zone": "$INCLUDE a.db\n TXT x\n", "a.db": HEAD})
    assert messages == ["line 2: 'TXT x' cannot be read: has no owner, and no record before it in this file has one"]


@pytest.mark.parametrize(
    ("records", "lame"),
    [
        ("@ NS ns\nns A 192.0.2.1\n", ""),
        ("@ NS ns.elsewhere.test.\n", ""),
        ("@ NS ns\n*.example.test. A 192.0.2.1\n", ""),
        ("@ NS www\n", ""),
        ("@ NS ns\n", "line 2: ns.example.test. is a name server of the zone and lies in it"),
        (
            "@ NS a\n@ NS b.c\na AAAA 2001:db8::1\n* A 192.0.2.1\nc TXT x\n",
            "line 3: b.c.example.test. is a name server",
        ),
        ("@ NS ns\nns CNAME a\na A 192.0.2.1\n", "line 2: ns.example.test. is a name server of the zone"),
    ],
)
def test_a_server_without_address(records: str, lame: str) -> None:
    """A name server that lies in the zone and has no address, of its own, of a wildcard or made, is warned of."""
    zone = Zone(APEX, f"@ 60 SOA ns h 1 2 3 4 5\n{records}")
    report = examined_alone(zone, {"www.example.test": Service("www.example.test", "web")})
    assert not report.problems
    assert [warning.message[: len(lame)] for warning in report.warnings] == ([lame] if lame else [])
