"""`dnsvip xdp`: what it refuses before it touches the kernel. The rest is tests/network/test_xdp.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnsvip.cli import main


@pytest.mark.parametrize("command", ["attach", "detach", "status"])
def test_only_for_its_mode(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node whose dispatcher is in user space has nothing to attach."""
    node = tmp_path / "node.toml"
    node.write_text('database = "sqlite:///site.db"\n[dispatch]\ninterface = "eth0"\n')
    with pytest.raises(SystemExit) as ended:
        main(["xdp", command, str(node)])
    assert ended.value.code == 2
    assert 'dispatch.mode: must be "xdp" here' in capsys.readouterr().err


@pytest.mark.parametrize("command", ["attach", "detach", "status"])
def test_needs_an_interface(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mode needs an interface, and says so with the key's name."""
    node = tmp_path / "node.toml"
    node.write_text('database = "sqlite:///site.db"\n[dispatch]\nmode = "xdp"\n')
    with pytest.raises(SystemExit) as ended:
        main(["xdp", command, str(node)])
    assert ended.value.code == 2
    assert "dispatch.interface: missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lo"], "give the addresses of this server"),
        (["lo", "10.0.0.1"], "10.0.0.1"),
        (["lo", "fd00::1", "--source", "100::/48"], "a prefix of 64 bits"),
        (["lo", "fd00::1", "--source", "nonsense"], "nonsense"),
        (["no-such-interface", "fd00::1"], "does not exist; there is: "),
    ],
)
def test_decap_refuses(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Addresses, prefix and interface are checked, and the error says what would be right."""
    with pytest.raises(SystemExit) as ended:
        main(["xdp", "decap", *words])
    assert ended.value.code in (2, 3)
    assert said in capsys.readouterr().err
