"""TLS of DNS listeners (RFC 7858, RFC 8310): certificates, handshakes, and what they prove about the peer.

TLS runs between buffers in memory: it knows no socket, and a stream decides when it works. Nothing is taken before a
handshake is complete (no early data, RFC 8446 appendix E.5), nothing is renegotiated. What can be wrong with a peer
raises Broken; of its certificate only names are read that a trusted authority has signed.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address
from math import inf
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.listener_files import ListenerFiles
from dnsvip.errors import PlatformError
from dnsvip.site.node_listen import OURS, ListenerTls
from dnsvip.site.values import FINGERPRINT

MOST_HELD = 1 << 13
"""Bytes of records that wait to be decrypted, beyond which no more is read."""

MOST_SHAKEN = 1 << 16
"""Bytes that a peer may send in a handshake: a chain of certificates fits many times."""

READ = 1 << 14
"""The most that one record holds (RFC 8446 section 5.1)."""

NAMING = x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier
"""The kinds of alternative names that identify, beside the common name."""

UNREADABLE = ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType
"""What reading a damaged certificate raises."""

TokenOf: TypeAlias = Callable[[str, IPv4Address | IPv6Address], str | None]
"""(token as it was sent, source) -> the name of the token, None where it is none of ours."""


class Broken(Exception):
    """The peer does not speak TLS, or not as we do; the connection is over."""


class Refused(Broken):
    """The peer has sent a token that is none of ours."""


class _Session(ssl.SSLObject):
    """What the name callback learns of a connection."""

    source: IPv4Address | IPv6Address
    token: str | None = None
    token_text: str = ""
    refused: bool = False


class Channel:
    """TLS of one connection, on the server's side."""

    __slots__ = ("_incoming", "_outgoing", "_session", "_shaken", "context", "ended", "held", "owes")

    def __init__(self, context: ssl.SSLContext, source: IPv4Address | IPv6Address) -> None:
        self.context = context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session: _Session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)  # type: ignore[assignment]
        session.source = source
        self._session = session
        self._shaken = 0
        self.ended = False
        """Whether the peer has said that it sends no more."""
        self.held = 0
        """Bytes that wait to be decrypted."""
        self.owes = False
        """Whether TLS itself has to send something about what was decrypted: `unsent`."""

    @property
    def protocol(self) -> str | None:
        """What ALPN has chosen (RFC 7301), None where nothing was."""
        return self._session.selected_alpn_protocol()

    @property
    def token(self) -> tuple[str, str] | None:
        """Name and text of the token in the name that the peer asked for."""
        return (self._session.token, self._session.token_text) if self._session.token is not None else None

    def feed(self, data: bytes) -> int:
        """Take what was read off the network; returns the bytes that wait."""
        self._incoming.write(data)
        self.held = self._incoming.pending
        return self.held

    def shake(self) -> bool:
        """Go on with the handshake; whether it is complete."""
        self._shaken += self._incoming.pending
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            if self._shaken > MOST_SHAKEN:
                raise Broken from None
            return False
        except (ssl.SSLError, ValueError):
            raise Refused if self._session.refused else Broken from None
        self.held = self._incoming.pending
        return True

    def certificate(self) -> tuple[tuple[str, ...], float]:
        """The names in the peer's certificate, which has been verified, and its end in unix seconds; none where it has
        shown none. In a session that is resumed it is as it was then: its time may be over."""
        der = self._session.getpeercert(binary_form=True)
        if not der:
            return (), inf
        try:
            certificate = x509.load_der_x509_certificate(der)
            return names_in(certificate), certificate.not_valid_after_utc.timestamp()
        except UNREADABLE:  # OpenSSL reads more than there should be
            raise Broken from None

    def decrypt(self, records: int) -> bytes:
        """What so many records at most hold that the peer has sent; b"" where none is complete."""
        session, incoming = self._session, self._incoming
        data, held = b"", self.held
        try:
            while held and records:
                room = min(held, READ)  # for no more: its rest would stay unused
                piece = session.read(room)
                if not piece:
                    self.ended, held = True, 0  # what comes behind it is nothing to anyone
                    break
                data = data + piece if data else piece
                held = incoming.pending or (session.pending() if len(piece) == room else 0)
                records -= 1
        except ssl.SSLWantReadError:
            held = 0
        except ssl.SSLError:
            raise Broken from None
        self.held, self.owes = held, self._outgoing.pending > 0
        return data

    def encrypt(self, data: bytes) -> bytes:
        """The bytes to send in order to tell the peer `data`."""
        try:
            self._session.write(data)
        except ssl.SSLError:
            raise Broken from None
        return self._outgoing.read()

    def unsent(self) -> bytes:
        """What TLS itself has to send: its part of a handshake, an alert."""
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """What ends the connection in order (close_notify)."""
        with suppress(ssl.SSLError, ValueError):
            self._session.unwrap()
        return self._outgoing.read()


class Terminator(ListenerFiles):
    """TLS of one listener, in the protocols that ALPN may choose. `token_of` knows tokens in server names."""

    def __init__(
        self,
        listener: str,
        files: ListenerTls,
        protocols: Sequence[str],
        token_of: TokenOf | None = None,
        authorities: str = "",
    ) -> None:
        self._protocols, self._token_of = list(protocols), token_of
        super().__init__(listener, files, authorities)

    def channel(self, source: IPv4Address | IPv6Address) -> Channel:
        """TLS of a new connection from there."""
        return Channel(self._context, source)

    def arrival(self, channel: Channel, anybody: Arrival, now: float) -> tuple[Arrival, float]:
        """How messages arrive by a channel whose handshake is complete, `anybody` where its peer has proved nothing;
        and the end of its certificate. Raises Broken for a certificate that would not be taken now, in unix seconds:
        its session is an old one, or the authorities have changed since the handshake began."""
        names, end = channel.certificate() if self._files.client_ca else ((), inf)
        if names and (now >= end or channel.context is not self._context or not self._trusts):
            raise Broken
        token = channel.token
        if not names and token is None:
            return anybody, end
        return anybody._replace(certificate=names, token=token[0] if token else None), end

    def _load(self, authorities: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = _Session
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 1
        context.set_alpn_protocols(self._protocols)
        files = self._files
        try:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
        except OSError as error:  # ssl.SSLError is one
            text = f"{files.certificate} and {files.key} are not a PEM certificate and its key: {_why(error)}"
            raise PlatformError(f"dns.listen {self._listener!r}: tls: {text}") from None
        for file in files.client_ca:
            try:
                if file != OURS:
                    context.load_verify_locations(file)
                elif authorities:
                    context.load_verify_locations(cadata=authorities)
            except OSError as error:
                text = f"{file} has no certificates of authorities in PEM form: {_why(error)}"
                raise PlatformError(f"dns.listen {self._listener!r}: tls.client_ca: {text}") from None
        if files.client_ca:
            context.verify_mode = ssl.CERT_OPTIONAL
        if self._token_of is not None and files.names:
            context.sni_callback = self._name  # type: ignore[assignment]  # typeshed: the class is that of the context
        self._context = context

    def _name(self, session: _Session, name: str | None, _context: ssl.SSLContext) -> int | None:
        """Take the token in the server name that a peer asks for: None, or the alert that refuses it."""
        label = token_label(self._files.names, name)
        if self._token_of is None or label is None:
            return None
        session.token, session.token_text = self._token_of(label, session.source), label
        session.refused = session.token is None
        return ssl.ALERT_DESCRIPTION_ACCESS_DENIED if session.refused else None


def token_label(names: Container[str], server_name: str | None) -> str | None:
    """The token in `TOKEN.NAME`, by which a client asks for one of a listener's names; None in another name."""
    label, _, parent = (server_name or "").lower().rstrip(".").partition(".")
    return label if parent in names and f"{label}.{parent}" not in names else None


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names by which a client certificate identifies, as `Arrival.certificate` has them: the most exact first.
    Raises UNREADABLE."""
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [name.value for name in others if isinstance(name, NAMING)]
    except x509.ExtensionNotFound:
        names = []
    names += [str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    lower = (name.lower() for name in names)
    own = (name for name in lower if not name.startswith(FINGERPRINT))  # nobody names himself so
    return FINGERPRINT + sha256(certificate.public_bytes(Encoding.DER)).hexdigest(), *own


def _no_password() -> str:
    raise OSError("the key is encrypted; a server needs one without a password")


def _why(error: OSError) -> str:
    return error.strerror or str(error)
