"""Wrapping: only the right key in the right place opens a secret, and the key file is private."""

from __future__ import annotations

import base64
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.errors import SecretError
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.secrets.sources import add_to_file

KEK = KeyEncryptionKey(bytes(range(32)), "test")


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_wrapped_comes_back(secret: bytes, context: bytes) -> None:
    """A wrapped secret unwraps in its place, and no two wrappings are equal."""
    wrapped = KEK.wrap(secret, context)
    assert KEK.unwrap(wrapped, context) == secret
    assert wrapped != KEK.wrap(secret, context)


@given(st.data())
def test_altered_or_moved_does_not_unwrap(data: st.DataObject) -> None:
    """A flipped bit, another place, another key or a truncated tail is refused."""
    wrapped = KEK.wrap(b"s" * 32, b"epoch/web/0")
    bit = data.draw(st.integers(0, len(wrapped) * 8 - 1))
    flipped = (int.from_bytes(wrapped, "big") ^ 1 << bit).to_bytes(len(wrapped), "big")
    other = KeyEncryptionKey(bytes(32), "other")
    cut = wrapped[: data.draw(st.integers(0, len(wrapped) - 1))]
    for key, sealed, context in (
        (KEK, flipped, b"epoch/web/0"),
        (KEK, wrapped, b"epoch/web/1"),
        (other, wrapped, b"epoch/web/0"),
        (KEK, cut, b"epoch/web/0"),
    ):
        with pytest.raises(SecretError, match="epoch/web/"):
            key.unwrap(sealed, context)


def test_key_file_is_made_once(tmp_path: Path) -> None:
    """The first load creates a private file; later ones read the same key; no draft is left."""
    path = tmp_path / "dnsvip.key"
    wrapped = KeyEncryptionKey.load(path, {}).wrap(b"s", b"c")
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyEncryptionKey.load(path, {}).unwrap(wrapped, b"c") == b"s"
    assert os.listdir(tmp_path) == ["dnsvip.key"]


def test_key_file_made_by_many_at_once_is_one(tmp_path: Path) -> None:
    """Processes that start together all use the same key."""
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: KeyEncryptionKey.load(tmp_path / "k", {}), range(16)))
    wrapped = keys[0].wrap(b"s", b"c")
    assert {key.unwrap(wrapped, b"c") for key in keys} == {b"s"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A key file open to others is refused, with the command that fixes it."""
    path = tmp_path / "dnsvip.key"
    KeyEncryptionKey.load(path, {})
    path.chmod(mode)
    with pytest.raises(SecretError, match=f"chmod 600 {path}"):
        KeyEncryptionKey.load(path, {})


def test_environment_wins(tmp_path: Path) -> None:
    """DNSVIP_KEY, as base64 or hex, replaces the file, which is not created."""
    key = os.urandom(32)
    wrapped = KeyEncryptionKey(key, "test").wrap(b"s", b"c")
    for text in (base64.b64encode(key).decode(), key.hex(), f" {key.hex().upper()}\n"):
        loaded = KeyEncryptionKey.load(tmp_path / "dnsvip.key", {"DNSVIP_KEY": text})
        assert loaded.unwrap(wrapped, b"c") == b"s"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "short", "x" * 64, base64.b64encode(b"a" * 31).decode()])
def test_what_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    """A file or variable without a 32-byte key is named, with the expected form and without its content."""
    path = tmp_path / "dnsvip.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SecretError, match="must be 32 bytes as base64 or hex") as caught:
        KeyEncryptionKey.load(path, {})
    assert str(path) in str(caught.value)
    if text:
        assert text not in str(caught.value)
        with pytest.raises(SecretError, match="variable DNSVIP_KEY"):
            KeyEncryptionKey.load(path, {"DNSVIP_KEY": text})


def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    """A key file that cannot be created is named with the reason."""
    with pytest.raises(SecretError, match=r"nowhere/k: cannot be written: No such file or directory"):
        KeyEncryptionKey.load(tmp_path / "nowhere" / "k", {})


def test_key_is_never_shown(tmp_path: Path) -> None:
    """The repr of a key names its source and nothing else."""
    assert repr(KeyEncryptionKey.load(tmp_path / "k", {})) == f"KeyEncryptionKey(from {tmp_path}/k)"


def test_two_keys_during_a_change(tmp_path: Path) -> None:
    """With two keys in a source the first wraps and both unwrap; the matching one can be moved first."""
    old, new = os.urandom(32), os.urandom(32)
    text = f"{old.hex()}\n{new.hex()}\n"
    both = KeyEncryptionKey.load(tmp_path / "k", {"DNSVIP_KEY": text})
    by_old, by_new = (KeyEncryptionKey(key, "x").wrap(b"s", b"c") for key in (old, new))
    assert both.unwrap(by_old, b"c") == both.unwrap(by_new, b"c") == b"s"
    assert both.active_id == KeyEncryptionKey(old, "x").active_id
    both.prefer(by_new, b"c")
    assert both.active_id == KeyEncryptionKey(new, "x").active_id
    assert KeyEncryptionKey(new, "x").unwrap(both.wrap(b"t", b"c"), b"c") == b"t"
    assert both.ids == {KeyEncryptionKey(key, "x").active_id for key in (old, new)}
    with pytest.raises(SecretError, match="does not unwrap"):
        both.prefer(KeyEncryptionKey(bytes(32), "x").wrap(b"s", b"c"), b"c")
    with pytest.raises(SecretError, match="more than 4 keys"):
        KeyEncryptionKey.load(tmp_path / "k", {"DNSVIP_KEY": ",".join([old.hex()] * 5)})


def test_key_added_to_a_file_is_read_again(tmp_path: Path) -> None:
    """After a second key is added to the file and reloaded, the first still wraps."""
    path, added = tmp_path / "dnsvip.key", tmp_path / "new.key"
    key = KeyEncryptionKey.load(path, {})
    first, new = key.active_id, KeyEncryptionKey.load(added, {}).active_id
    assert add_to_file(path, added)
    assert not add_to_file(path, added)
    assert path.stat().st_mode & 0o777 == 0o600
    key.reread()
    assert (key.ids, key.active_id) == ({first, new}, first)
    path.write_text("nonsense")
    with pytest.raises(SecretError):
        key.reread()
    assert key.ids == {first, new}
    assert sorted(os.listdir(tmp_path)) == ["dnsvip.key", "new.key"]


def test_command_gives_the_key(tmp_path: Path) -> None:
    """A command's output is used as the key and no file is created; the environment takes precedence."""
    key = os.urandom(32)
    loaded = KeyEncryptionKey.load(tmp_path / "k", {}, ["printf", "%s", key.hex()])
    assert loaded.active_id == KeyEncryptionKey(key, "x").active_id
    other = KeyEncryptionKey.load(tmp_path / "k", {"DNSVIP_KEY": bytes(32).hex()}, ["false"])
    assert other.active_id == KeyEncryptionKey(bytes(32), "x").active_id
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_a_fifo(tmp_path: Path) -> None:
    """It is refused and not waited for: nobody may ever write to it."""
    path = tmp_path / "k"
    os.mkfifo(path, 0o600)
    with pytest.raises(SecretError, match=r"key file .* is not a regular file"):
        KeyEncryptionKey.load(path, {})


def test_a_file_behind_a_link(tmp_path: Path) -> None:
    """Kubernetes mounts secrets as links to files."""
    made = KeyEncryptionKey.load(tmp_path / "k", {})
    (tmp_path / "link").symlink_to(tmp_path / "k")
    assert KeyEncryptionKey.load(tmp_path / "link", {}).ids == made.ids


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["/nowhere/at/all"], "key command /nowhere/at/all: cannot be run: No such file"),
        (["sh", "-c", "echo hunter2; echo no card >&2; exit 3"], "key command sh: exit status 3: no card"),
        (["echo", "hunter2"], "key command echo: holds no key"),
        (["yes", "hunter2"], "key command yes: prints more than 1024 bytes"),
        (
            ["sh", "-c", "head -c 999999 /dev/zero >&2; echo '\nno card' >&2; exit 3"],
            "key command sh: exit status 3: no card",
        ),
    ],
)
def test_command_that_fails_is_named(tmp_path: Path, command: list[str], message: str) -> None:
    """A command that cannot run, fails, or prints no key is named with its last error line, never with its output."""
    with pytest.raises(SecretError, match=message) as caught:
        KeyEncryptionKey.load(tmp_path / "k", {}, command)
    assert "hunter2" not in str(caught.value).replace(" ".join(command), "")


def test_key_in_a_pkcs11_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that reads a private object of a PKCS#11 token gives the key only with the PIN."""
    module = "/usr/lib/softhsm/libsofthsm2.so"
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("DNSVIP_PIN", "1234")
    tool = ["pkcs11-tool", "--module", module, "--token-label", "dnsvip", "--type", "data", "--label", "dnsvip"]
    tool += ["--login", "--pin", "env:DNSVIP_PIN"]
    original = KeyEncryptionKey.load(tmp_path / "k", {})
    pins = ["--pin", "1234", "--so-pin", "5678"]
    for argv in (
        ["softhsm2-util", "--init-token", "--free", "--label", "dnsvip", *pins],
        [*tool, "--private", "--write-object", str(tmp_path / "k")],
    ):
        subprocess.run(argv, check=True, capture_output=True)
    (tmp_path / "k").unlink()
    assert KeyEncryptionKey.load(tmp_path / "k", {}, [*tool, "--read-object"]).active_id == original.active_id
    monkeypatch.setenv("DNSVIP_PIN", "4321")
    with pytest.raises(SecretError, match="key command pkcs11-tool: exit status 1"):
        KeyEncryptionKey.load(tmp_path / "k", {}, [*tool, "--read-object"])


async def test_a_key_that_was_made_in_vain_is_taken_back(url: str, kek: KeyEncryptionKey, tmp_path: Path) -> None:
    """A node without the key of a database that is elsewhere is told what to do, and keeps no key that fits nothing."""
    await (await Store.open(url, kek)).close()
    made = KeyEncryptionKey.load(tmp_path / "new.key", {})
    made.made = tmp_path / "new.key"
    with pytest.raises(SecretError, match=r"new\.key is missing.*copy the file"):
        await Store.open(url, made)
    assert not (tmp_path / "new.key").exists()
