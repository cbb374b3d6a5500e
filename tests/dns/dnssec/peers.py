"""Knot and PowerDNS, each signing zones as it answers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tests.dns.differential.peers import Knot, Peer


class SigningKnot(Knot):
    """Knot's onlinesign module."""

    def configuration(self) -> str:
        policy = "policy:\n  - id: here\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n"
        module = "mod-onlinesign:\n  - id: here\n    policy: here\n"
        before, zones = super().configuration().split("\nzone:\n")
        signed = "".join(
            f"{line}\n    module: mod-onlinesign/here\n" if line.lstrip().startswith("file:") else f"{line}\n"
            for line in zones.splitlines()
        )
        return f"{before.replace('template:', f'{policy}{module}template:')}\nzone:\n{signed}"


class SigningPowerDns(Peer):
    """PowerDNS with its SQLite backend and live signing."""

    def __enter__(self) -> Peer:
        schema = "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql"
        with open(schema) as file:
            subprocess.run(["sqlite3", str(self.folder / "db")], stdin=file, check=True)
        for name, file_ in self.files.items():
            self._tool("load-zone", name, str(file_))
            self._tool("secure-zone", name)
            self._tool("rectify-zone", name)
        return super().__enter__()

    def _tool(self, *words: str) -> None:
        done = subprocess.run(
            ["pdnsutil", "--config-dir", str(self.folder), *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def command(self) -> Sequence[str]:
        return ["/usr/sbin/pdns_server", f"--config-dir={self.folder}"]

    def configuration(self) -> str:
        lines = [
            f"launch=gsqlite3\ngsqlite3-database={self.folder}/db\ngsqlite3-dnssec=yes\nsocket-dir={self.folder}",
            f"local-address=127.0.0.1\nlocal-port={self.port}\nreceiver-threads=1\ndistributor-threads=1",
            "daemon=no\nguardian=no\nsetuid=\nsetgid=\nwrite-pid=no\ndname-processing=yes\ncache-ttl=0\nquery-cache-ttl=0",
            "negquery-cache-ttl=0\nexpand-alias=no\ndefault-ksk-algorithm=ecdsa256\nloglevel=3\nzone-cache-refresh-interval=0",
        ]
        (self.folder / "pdns.conf").write_text("\n".join(lines) + "\n")
        return "\n".join(lines) + "\n"
