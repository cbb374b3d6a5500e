"""`dnsvip decoder`: answer local programs what addresses say, until it is stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import structlog
import uvloop

from dnsvip.decoder.decode import AddressReader, Decoded
from dnsvip.decoder.io.feed import Feed
from dnsvip.decoder.io.listener import Listener
from dnsvip.decoder.keys import DecodingKeys, snapshot_of
from dnsvip.decoder.places import Places
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.node.descriptors import OWN, raised
from dnsvip.node.lifecycle import run_until_one_ends, stop_on_signal
from dnsvip.node.sd_notify import Notifier
from dnsvip.site import Snapshot
from dnsvip.site.io.files import load_decoder_node
from dnsvip.site.node_decoder import DecoderNode, DecoderSettings
from dnsvip.telemetry.log import configure

log = structlog.get_logger()


def decoder(node_file: Path) -> None:
    """Answer what the addresses of the clusters in a node file say, until SIGTERM."""
    node = load_decoder_node(node_file)
    configure(node.log)
    uvloop.run(_decoder(node))


class _Answers:
    """Answers with the newest keys; an address of an unknown epoch waits for a look at the API."""

    def __init__(self, node: DecoderNode) -> None:
        self._reader = AddressReader(Snapshot())
        self.feed = Feed(node.decoder, node.state_dir, self._take)

    def _take(self, documents: Mapping[str, DecodingKeys]) -> None:
        self._reader = AddressReader(snapshot_of(documents.values()))
        epochs = {name: [epoch.slot for epoch in keys.epochs] for name, keys in documents.items()}
        log.info("reading addresses", epochs=epochs)

    async def read(self, address: str) -> Decoded:
        """What an address says."""
        parsed = ip_address(address)
        decoded = self._reader.read(parsed, time.time())
        if decoded.verdict == AddressReason.UNKNOWN_EPOCH and await self.feed.soon():
            decoded = self._reader.read(parsed, time.time())
            if decoded.verdict == AddressReason.UNKNOWN_EPOCH:
                self.feed.rest()
        return decoded


def _places(settings: DecoderSettings) -> Places:
    """The connections that the settings allow, as far as descriptors remain for the keys and the token."""
    descriptors = raised(OWN + settings.connections)
    most = max(1, min(settings.connections, descriptors - OWN))
    if most < settings.connections:
        log.warning(
            "too few file descriptors for the connections that the node file allows",
            connections=most,
            mend=f"LimitNOFILE={OWN + settings.connections} in the unit",
        )
    return Places(most, settings.per_user, settings.idle_seconds)


async def _decoder(node: DecoderNode) -> None:
    stopped, notifier, answers = stop_on_signal(), Notifier(os.environ), _Answers(node)
    answers.feed.load()
    settings = node.decoder
    listener = Listener(settings.listen, settings.http, answers.read, _places(settings))
    await listener.start()
    log.info("listening", socket=str(settings.listen), http=settings.http and str(settings.http))
    notifier.ready(f"decoding {', '.join(settings.clusters)}")
    try:
        await run_until_one_ends((answers.feed.run(), notifier.keep_alive(), stopped.wait()))
        notifier.stopping()
    finally:
        await listener.stop()
