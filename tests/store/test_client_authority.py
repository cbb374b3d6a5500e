"""The site's own authority of client certificates: made on demand, replaced with both trusted, removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import update

from dnsvip.errors import Conflict, SecretError
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database.tables import client_authority
from dnsvip.store.keys.certificates import LONGEST_DAYS, Issued
from dnsvip.store.keys.client_authority import MOST
from dnsvip.store.snapshots import lastgood

NOW = 1_700_000_000.0
DAY = 86_400


async def issued(store: Store, at: float = NOW, days: int = 30) -> Issued:
    """A certificate of acme for a new key."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return await store.client_authorities.sign("acme", 3, key, "me", at, days)


async def test_the_first_certificate_makes_the_authority(filled: Store) -> None:
    """It is made once, its certificate is in the snapshot and on the node's disk, and it has signed what it issued."""
    assert (await filled.snapshots.load()).client_ca == ()
    first, second = await issued(filled), await issued(filled, days=5)
    (authority,) = await filled.client_authorities.all()
    assert (await filled.snapshots.load()).client_ca == (authority.certificate,)
    signer = x509.load_pem_x509_certificate(authority.certificate.encode())
    leaf, behind = x509.load_pem_x509_certificates(first.certificate.encode())
    leaf.verify_directly_issued_by(signer)
    assert behind == signer
    assert (first.not_after, second.not_after) == (NOW + 30 * DAY, NOW + 5 * DAY)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["dnsvip:acme?generation=3"]
    with pytest.raises(Conflict):
        await filled.client_authorities.create("me", NOW)


async def test_both_are_trusted_while_one_is_replaced(filled: Store, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """The new one signs, the one before stays in snapshots until the last of its certificates has ended; nodes that
    follow and nodes that start from the disk know both."""
    before = await filled.snapshots.load()
    old = await issued(filled)
    await filled.client_authorities.rotate("me", NOW + DAY)
    new = await issued(filled, NOW + DAY)
    after = await filled.snapshots.refresh(before)
    assert [pem in new.certificate for pem in after.client_ca] == [True, False]
    assert [pem in old.certificate for pem in after.client_ca] == [False, True]
    lastgood.save(tmp_path, after, "id", kek)
    assert lastgood.load(tmp_path, kek).client_ca == after.client_ca
    assert b"PRIVATE" not in (tmp_path / lastgood.FILE).read_bytes()
    await filled.client_authorities.rotate("me", NOW + (LONGEST_DAYS + 2) * DAY)
    assert [each.number for each in await filled.client_authorities.all()] == [3, 2]


async def test_an_authority_that_leaked_is_removed(filled: Store) -> None:
    """It is in no snapshot from then on; removing what is not there is told."""
    await issued(filled)
    await filled.client_authorities.rotate("me", NOW)
    before = await filled.snapshots.load()
    assert await filled.client_authorities.remove(1, "me")
    assert len((await filled.snapshots.refresh(before)).client_ca) == 1
    assert not await filled.client_authorities.remove(1, "me")


async def test_authorities_are_bounded(filled: Store) -> None:
    """So many are trusted at once; one more is refused until one is removed."""
    for _ in range(MOST):
        await filled.client_authorities.rotate("me", NOW)
    with pytest.raises(Conflict):
        await filled.client_authorities.rotate("me", NOW)


async def test_one_that_cannot_be_read_is_named(filled: Store) -> None:
    """A damaged certificate is not trusted, a damaged key signs nothing, both are named; another takes over."""
    await issued(filled)
    await filled.client_authorities.rotate("me", NOW)
    async with filled._session.write_unordered() as connection:
        await connection.execute(update(client_authority).where(client_authority.c.number == 1).values(certificate="x"))
        await connection.execute(update(client_authority).where(client_authority.c.number == 2).values(secret=b"x"))
    snapshot = await filled.snapshots.load()
    assert len(snapshot.client_ca) == 1
    assert {problem.where for problem in snapshot.unreadable} == {"client_ca.1", "client_ca.2"}
    with pytest.raises(SecretError):
        await issued(filled)
    await filled.client_authorities.rotate("me", NOW)
    assert await issued(filled)
