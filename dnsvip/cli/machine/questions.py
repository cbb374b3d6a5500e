"""Asks the DNS processes of this machine what they answer, at their sockets (node/question_watch.py)."""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from dnsvip.errors import PlatformError
from dnsvip.node.question_watch import SOCKETS, VERSION
from dnsvip.site.io.files import load_node
from dnsvip.site.plain import JsonObject


def watched(node_file: Path, match: JsonObject) -> Iterator[JsonObject]:
    """What all processes say, document by document; ends with the last of them. Raises PlatformError where there is
    none, or one refuses."""
    folder = load_node(node_file).state_dir
    with ExitStack() as stack, selectors.DefaultSelector() as waiting:
        for path in sorted(folder.glob(SOCKETS)):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            try:
                connection.connect(str(path))
                connection.sendall(json.dumps({"match": match}).encode() + b"\n")
            except ConnectionRefusedError:
                continue  # it was killed
            except OSError as error:
                raise PlatformError(f"{path}: cannot be asked: {error.strerror}") from error
            waiting.register(connection, selectors.EVENT_READ, bytearray())
        if not waiting.get_map():
            raise PlatformError(f"{folder}: no DNS server runs here with this node file")
        yield from _documents(waiting)


def _documents(waiting: selectors.BaseSelector) -> Iterator[JsonObject]:
    while waiting.get_map():
        for key, _ in waiting.select():
            read = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]  # a socket, see above
            if not read:
                waiting.unregister(key.fileobj)
            buffer: bytearray = key.data
            buffer += read
            *lines, rest = buffer.split(b"\n")
            buffer[:] = rest
            for line in lines:
                document = json.loads(line)
                if "error" in document:
                    raise PlatformError(str(document["error"]))
                if document.get("dns", VERSION) != VERSION:
                    raise PlatformError("a DNS server of another version runs here; restart it")
                yield document


def line_of(question: JsonObject) -> str:
    """A question and its answer in one line."""
    time = datetime.fromisoformat(question["time"]).strftime("%H:%M:%S.%f")[:-3]
    asked = f"{question['qname']} {question['qtype']}" if "qname" in question else str(question.get("malformed"))
    answer = f"{question['outcome']}: no answer"
    if "rcode" in question:
        cut = " truncated" if question["tc"] else ""
        answer = f"{question['outcome']}: {question['rcode']}{cut}, {question['response_size']} bytes"
    parts = [
        time,
        f"{question['socket_protocol']} {question['query_address']} to {question['listener']}",
        asked,
        answer,
    ]
    parts += [f"ecs {question['ecs']}"] if "ecs" in question else []
    parts += [f"tier {question['tier']}"] if question["tier"] else []
    parts += [f"{question['vip']} address"] if question["vip"] else []
    parts += [f"identified by {question['identified_by']}"] if "identified_by" in question else []
    parts += ["in the kernel"] if question["in_kernel"] else []
    return ", ".join(parts)
