"""Keys in BIND's private format, as its own program writes them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dnsvip.dns.dnssec.keys import SigningKey
from dnsvip.site import ZoneKey
from dnsvip.site.bind_keys import BindKey, read_bind_key

pytestmark = pytest.mark.skipif(not shutil.which("dnssec-keygen"), reason="dnssec-keygen is not installed")


def made(folder: Path, algorithm: str, *options: str) -> tuple[str, str]:
    """The texts of the two files of a new key."""
    command = ["dnssec-keygen", "-q", "-K", str(folder), "-a", algorithm, *options, "example.test"]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return (folder / f"{name}.private").read_text(), (folder / f"{name}.key").read_text()


def signing(key: BindKey) -> SigningKey:
    return SigningKey.of(ZoneKey(1, key.algorithm, key.secret, 0, sep=key.sep))


@pytest.mark.parametrize("algorithm", ["ECDSAP256SHA256", "ED25519"])
@pytest.mark.parametrize("options", [(), ("-f", "KSK")])
def test_read(tmp_path: Path, algorithm: str, options: tuple[str, ...]) -> None:
    """Algorithm, flag and secret, from which comes the public key and the tag that BIND has."""
    private, public = made(tmp_path, algorithm, *options)
    key = read_bind_key(private, public)
    assert key.sep is bool(options)
    assert signing(key).dnskey[4:] == key.public
    assert f"keyid {signing(key).tag}," in public
    assert key.secret.hex() not in repr(key)


def test_refused(tmp_path: Path) -> None:
    """What is wrong is named with its file, line and right form, and no secret is shown."""
    private, public = made(tmp_path, "ECDSAP256SHA256")
    secret = next(line.split()[1] for line in private.splitlines() if line.startswith("PrivateKey"))
    cases = [
        ("nonsense", public, ".private: line 1: must be `NAME: VALUE`"),
        ("", public, "Private-key-format: v1.3"),
        (private.replace("v1.3", "v9"), public, "Private-key-format: v1.3"),
        (private.replace("Algorithm: 13", "Algorithm: 8"), public, "must be 13 .* or 15 .* not '8'"),
        (private.replace("Algorithm: 13", "Algorithm: 15"), public, ".key: algorithm 13, but .private has 15"),
        (private.replace("PrivateKey:", "Label:"), public, "PrivateKey: BASE64"),
        (private.replace(secret, "!"), public, "PrivateKey: must be base64"),
        (private.replace(secret, "AAAA"), public, "must be 32 bytes in base64, not 3"),
        (private, "", ".key: must have one record"),
        (private, public + public, ".key: must have one record"),
        (private, public.replace(" 256 ", " 7 "), ".key: must have one record"),
        (private, public.rstrip()[:-1] + "!", ".key: DNSKEY: must be base64"),
    ]
    for one, other, why in cases:
        with pytest.raises(ValueError, match=why) as caught:
            read_bind_key(one, other)
        assert secret not in str(caught.value)
