"""A real `dnsvip decoder` beside a real node: sockets, rotations, outages, and the examples with a real nginx."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog

from dnsvip.cli import main
from dnsvip.decoder import Decoded, Decoder
from dnsvip.demo.netns import Host, World
from tests.node.serving import EXAMPLES, within

PROGRAM = Path(sys.executable).with_name("dnsvip")
PREFIX = "2001:db8:a:1::/64"


WRONG_TOKENS = """
import http.client, itertools, time
told = False
for n in itertools.count():
    api = http.client.HTTPConnection("127.0.0.1", 8053)
    api.request("GET", "/api/v1/whoami", headers={"Authorization": f"Bearer wrong-{n}"})
    status = api.getresponse().status
    if status == 429 and not told:
        told = print(status, flush=True) is None
    api.close()
    time.sleep(0.005)
"""
"""What takes the attempts of this machine as soon as there are any."""

IN_FOLDER = 'cd "$1" && shift && exec "$@"'


class Server:
    """A host with a node and a decoder on it, on a copy of the examples."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.folder = host, folder
        self.command("apply", "site.toml", "--config", "node.toml")
        self.node = self.start("serve", "node.toml", "--token-file", "token")
        within(60, lambda: (folder / "token").exists() and (folder / "token").read_text())
        made = self.command("tokens", "create", "web-1", "--role", "decoder", "--token-file", "token")
        (folder / "decoder.token").write_text(made)
        self.decoder = self.start_decoder()
        within(10, lambda: self.read("2001:db8:a:1::1").verdict == "plain")

    def start_decoder(self) -> subprocess.Popen[bytes]:
        """A decoder that listens."""
        process = self.start("decoder", "decoder.toml")
        within(60, (self.folder / "decoder-http.sock").exists)
        return process

    def command(self, *words: str) -> str:
        """The output of a command that succeeds."""
        return self.host.run("sh", "-c", IN_FOLDER, "sh", self.folder, PROGRAM, *words).stdout

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A process that runs until the test ends."""
        return self.run(PROGRAM, *words, log=f"{words[0]}.log")

    def run(self, *argv: str | Path, log: str) -> subprocess.Popen[bytes]:
        """A program in the folder of the examples."""
        return self.host.start("sh", "-c", IN_FOLDER, "sh", self.folder, *argv, log=self.folder / log)

    def log(self, name: str) -> str:
        """What a process has logged."""
        return (self.folder / f"{name}.log").read_text()

    def vip(self) -> str:
        """The address that DNS gives to acme now."""
        words = ("@127.0.0.1", "-p", "5353", "+short", "+subnet=198.51.100.0/24", "AAAA", "www.example.test")
        return self.host.run("dig", *words).stdout.strip()

    def read(self, address: str) -> Decoded:
        """What the decoder says."""
        with Decoder(self.folder / "decoder.sock") as decoder:
            return decoder.decode(address)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a process in good order."""
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One in a network namespace of its own. Each test leaves node and decoder running, but for the last one."""
    if reason := World.available():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("server") / "examples"
    shutil.copytree(EXAMPLES, folder)
    with World() as world:
        host = world.host("server")
        host.route(f"local {PREFIX}", "dev", "lo")
        yield Server(host, folder)


def test_it_reads_and_follows(server: Server) -> None:
    """An address of DNS is read; after an emergency, whose key the decoder cannot know before, a new one is, and the
    old one no more."""
    old = server.vip()
    first = server.read(old)
    assert (first.verdict, first.tier, first.client, first.attributes) == ("issued", "gold", 1001, {"lang": "fr"})
    server.command("keys", "rotate", "web", "--emergency", "--token-file", "token")
    within(10, lambda: server.vip() != old)
    assert server.read(server.vip()).verdict == "issued"
    assert server.read(old).verdict in ("unknown-epoch", "bad-tag")


def test_without_the_api(server: Server) -> None:
    """It goes on without the API, after a restart too, with a file that holds no key in the clear."""
    address = server.vip()
    server.stop(server.node)
    assert server.read(address).accepted
    server.stop(server.decoder)
    assert not (server.folder / "decoder.sock").exists()
    stored = server.folder / "state" / "decoding-keys"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert b"encryption_key" not in stored.read_bytes()
    server.decoder = server.start_decoder()
    assert server.read(address).accepted
    server.node = server.start("serve", "node.toml")
    within(60, lambda: "fetched again" in server.log("decoder"))


def test_the_line_protocol(server: Server) -> None:
    """Any number of lines on a connection are answered, also what is no address; a line without an end is refused."""
    path = str(server.folder / "decoder.sock")
    assert (server.folder / "decoder.sock").stat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as answers:
        connection.connect(path)
        connection.sendall(b"2001:db8::1\nwhat?\n\xff\n\n 192.0.2.8 \n")
        lines = [json.loads(answers.readline()) for _ in range(5)]
        assert [line.get("verdict") or line["error"][:12] for line in lines] == [
            "not-ours",
            *["an IPv6 or I"] * 3,
            "not-ours",
        ]
        connection.sendall(b"2" * 200)
        assert json.loads(answers.readline()) == {"error": "a line has at most 64 bytes"}
        assert answers.read() == b""
    with Decoder(path) as decoder, pytest.raises(ValueError, match="what"):
        decoder.decode("what?")


def test_a_crowd_of_connections(server: Server) -> None:
    """Programs that open connections without end leave it descriptors for new keys, and answers to who asks next."""
    with ExitStack() as stack:
        for socket_, number in (("decoder-http.sock", 1400), ("decoder.sock", 300)):
            for _ in range(number):
                crowd = stack.enter_context(socket.socket(socket.AF_UNIX))
                crowd.connect(str(server.folder / socket_))
        old = server.vip()
        assert server.read(old).verdict == "issued"
        server.command("keys", "rotate", "web", "--emergency", "--token-file", "token")
        within(10, lambda: server.vip() != old)
        assert server.read(server.vip()).verdict == "issued"
        curl = ("curl", "--silent", "--include", "--unix-socket", server.folder / "decoder-http.sock")
        asked = server.host.run(*curl, "--header", f"X-DNSVIP-Address: {server.vip()}", "http://localhost/").stdout
        assert asked.startswith("HTTP/1.1 204")


@pytest.mark.network
def test_the_examples(server: Server) -> None:
    """The application greets each client by its tier; nginx logs tier and client and passes them on. Both serve without
    the decoder too."""
    address = server.vip()
    server.run(sys.executable, "servers/greet.py", "::", "8081", "decoder.sock", log="greet.log")
    workers = ["-g", "user root;"] if os.geteuid() == 0 else []  # who may open the socket
    server.run("nginx", "-p", server.folder, "-c", "servers/nginx.conf", *workers, log="nginx.log")
    curl = ("curl", "--silent", "--retry", "20", "--retry-connrefused", "--retry-delay", "1")
    assert server.host.run(*curl, f"http://[{address}]:8081/").stdout == "Bonjour, gold client 1001\n"
    assert server.host.run(*curl, "http://[2001:db8:a:1::1]:8081/").stdout == "Hello, standard client without a name\n"
    forged = address[:-1] + ("1" if address[-1] != "1" else "2")
    assert server.host.run(*curl, f"http://[{forged}]:8081/").stdout == "Hello, stranger (bad-tag)\n"
    behind = server.host.run(*curl, "--include", "--header", "X-Tier: boss", f"http://[{address}]:8080/").stdout
    assert "X-Tier: gold" in behind
    within(10, lambda: f"{address} tier=gold client=1001" in (server.folder / "nginx-access.log").read_text())
    server.stop(server.decoder)
    alone = server.host.run(*curl, "--include", f"http://[{address}]:8080/").stdout
    assert alone.startswith("HTTP/1.1 200")
    assert alone.endswith("Hello, stranger\n")
    assert "X-Tier" not in alone
    server.decoder = server.start_decoder()


def test_a_token_that_is_revoked(server: Server) -> None:
    """It takes the keys with it, also where a program of the server hides that behind wrong tokens of its own."""
    address = server.vip()
    server.run(sys.executable, "-c", WRONG_TOKENS, log="wrong.log")
    within(10, lambda: "429" in server.log("wrong"))
    server.command("tokens", "delete", "web-1", "--token-file", "token")
    within(30, lambda: server.read(address).verdict == "not-ours")
    assert re.search("the API answers 4(01|29)", server.log("decoder"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "decoder: missing"),
        ("[decoder]\nclusters = []", "decoder.clusters"),
        (
            '[decoder]\nclusters = ["web"]\napi = "http://192.0.2.1:8053"\ntoken_file = "t"',
            "decoder.api: must be https",
        ),
        ('[decoder]\nclusters = ["web"]\napi = "unix:x"\ntoken_file = "t"', "decoder.token_file: "),
        ('database = "sqlite:///x"', "this looks like a node file, not a decoder's file"),
        ('colour = "red"', "colour: unknown key"),
    ],
)
def test_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    """It is refused with the key and the right form."""
    (tmp_path / "decoder.toml").write_text(text)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["decoder", str(tmp_path / "decoder.toml")])
    finally:
        structlog.reset_defaults()  # it logs to this test's standard error
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
