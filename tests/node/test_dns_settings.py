"""DNS server settings from the site and node files: who may transfer a zone, and the server's identity (NSID)."""

from __future__ import annotations

from pathlib import Path

from tests.node.serving import NODE, node, within

SAYS = NODE + '[dns]\nidentity = "node-1"\nversion = true\nnsid = "n1"\n'


def test_transfer_and_identity(tmp_path: Path) -> None:
    """A transfer list set in the site file and changed by the API applies at once; the server reports its identity."""
    with node(tmp_path) as server:
        server.write_node(SAYS)
        site = server.folder / "site.toml"
        whole = 'file = "example.test.zone"\ntransfer = { to = ["127.0.0.1/32"] }'
        site.write_text(site.read_text().replace('file = "example.test.zone"', whole))
        server.apply()
        server.start("--token-file", "token")
        assert server.dig("CH", "TXT", "id.server") == '"node-1"'
        assert server.dig("CH", "TXT", "version.bind").startswith('"dnsvip ')
        before = server.dig("AXFR", "example.test").splitlines()
        assert before[0] == before[-1]
        assert len(before) > 3
        status, _ = server.curl("PATCH", "zones/example.test", {"transfer": {"to": ["192.0.2.0/24"]}})
        assert status == 200
        within(2.0, lambda: "Transfer failed" in server.dig("AXFR", "example.test"))
        assert server.dig("CH", "TXT", "hostname.bind") == '"node-1"'
        assert server.stop() == 0
