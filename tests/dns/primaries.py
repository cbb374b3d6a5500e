"""BIND, Knot and NSD as primaries of a server on loopback, which they send NOTIFY to and transfers with a key."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from tests.dns.differential.peers import Bind, Knot, Nsd, Peer
from tests.dns.world import SECRET


class Primary(Peer):
    """A server with one zone; `secondary` is the port that it sends NOTIFY to."""

    def __init__(self, folder: Path, zone: str, text: str, secondary: int) -> None:
        self.zone, self.secondary = zone, secondary
        super().__init__(folder, {zone: text})

    @property
    def file(self) -> Path:
        """Its zone file."""
        return self.files[self.zone]

    def change(self, text: str) -> None:
        """Give it another zone."""
        self.file.write_text(text)
        self.process.send_signal(signal.SIGHUP)

    def text(self) -> str:
        """Its log."""
        return (self.folder / "log").read_text()


class PrimaryBind(Primary, Bind):
    """BIND, which makes differences of what it reloads."""

    def configuration(self) -> str:
        key = f'key "transfer-key" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n'
        more = (
            "allow-transfer { key transfer-key; }; ixfr-from-differences yes; notify explicit;"
            f" also-notify {{ 127.0.0.1 port {self.secondary} key transfer-key; }}; notify-delay 0;"
        )
        return key + Bind.configuration(self).replace("{ type primary;", f"{{ type primary; {more}")


class PrimaryKnot(Primary, Knot):
    """Knot, which keeps a journal."""

    def configuration(self) -> str:
        key = f'key:\n  - id: transfer-key\n    algorithm: hmac-sha256\n    secret: "{SECRET}"\n'
        remote = f"remote:\n  - id: ours\n    address: 127.0.0.1@{self.secondary}\n    key: transfer-key\n"
        acl = "acl:\n  - id: transfers\n    key: transfer-key\n    action: transfer\n"
        text = Knot.configuration(self).replace("template:", key + remote + acl + "template:")
        text = text.replace("journal-content: none", "journal-content: changes").replace(
            "load: whole", "load: difference"
        )
        return text + "    notify: ours\n    acl: transfers\n"


class PrimaryNsd(Primary, Nsd):
    """NSD, which sends differences of what it has loaded."""

    def configuration(self) -> str:
        key = f'key:\n  name: "transfer-key"\n  algorithm: hmac-sha256\n  secret: "{SECRET}"\n'
        more = f"  notify: 127.0.0.1@{self.secondary} transfer-key\n  provide-xfr: 127.0.0.1 transfer-key\n"
        more += "  store-ixfr: yes\n  create-ixfr: yes\n"
        return Nsd.configuration(self) + more + key


PRIMARIES: Mapping[str, type[Primary]] = {"bind": PrimaryBind, "knot": PrimaryKnot, "nsd": PrimaryNsd}
