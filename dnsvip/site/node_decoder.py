"""The node file of `dnsvip decoder`: a server's, which knows no database. Each setting is declared once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from dnsvip.errors import InvalidSite
from dnsvip.site import STRICT, Name
from dnsvip.site.declare import About
from dnsvip.site.node_admin import UNIX
from dnsvip.site.node_log import ProcessLogSettings
from dnsvip.site.plain import problem_of

URL = re.compile(r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?")


def _checked_api(text: str) -> str:
    if text.startswith(UNIX) and len(text) > len(UNIX):
        return text
    parts = URL.fullmatch(text)
    if parts is None:
        raise ValueError("must be https://HOST:PORT, http://127.0.0.1:PORT or unix:PATH")
    if parts["scheme"] == "http" and parts["host"] not in ("127.0.0.1", "[::1]", "localhost"):
        raise ValueError("must be https://HOST:PORT: the answers hold keys, and http is for this machine only")
    return text.rstrip("/")


@dataclass(frozen=True, slots=True)
class DecoderSettings:
    """`[decoder]`: whose addresses are read, where their keys come from, and where programs ask."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    clusters: Annotated[
        tuple[Name, ...], Field(min_length=1, max_length=256), About("Clusters", "Clusters whose addresses are read.")
    ]
    api: Annotated[
        str,
        AfterValidator(_checked_api),
        About("API", "HTTP API that has the keys: `https://HOST:PORT`, `http://127.0.0.1:PORT` or `unix:PATH`."),
    ]
    token_file: Annotated[
        Path, About("Token file", "File with a token of the role `decoder`, or whose scope allows `write` on it.")
    ]
    ca: Annotated[
        Path | None, About("Certificate authorities", "PEM file trusted under https in place of the system's.")
    ] = None
    listen: Annotated[
        Path, About("Listen", "Unix socket of the line protocol; owner and group may connect (mode 0660).")
    ] = Path("decoder.sock")
    http: Annotated[
        Path | None, About("HTTP", "Unix socket that answers HTTP, for `auth_request` of nginx; without one none.")
    ] = None
    poll_seconds: Annotated[
        float,
        Field(ge=0.5, le=3600, allow_inf_nan=False),
        About("Poll", "Time between two looks for new keys; an unknown epoch asks at once.", unit="s"),
    ] = 5.0
    connections: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        About(
            "Connections",
            "Maximum connections to both sockets; beyond, one of the user with most makes room. Fewer where the "
            "process may open few descriptors.",
        ),
    ] = 512
    per_user: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        About(
            "Per user",
            "Maximum connections of one user of this machine; beyond, its own that is idle longest makes room.",
        ),
    ] = 256
    idle_seconds: Annotated[
        float,
        Field(ge=0.1, le=86400, allow_inf_nan=False),
        About("Idle time", "Close a connection this long after its last question, or its answer.", unit="s"),
    ] = 75.0


@dataclass(frozen=True, slots=True)
class DecoderNode:
    """The whole file. Paths are relative to it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    decoder: Annotated[DecoderSettings, About("Decoder", "What addresses say, for programs of this machine.")]
    state_dir: Annotated[
        Path, About("State folder", "Folder of the keys as fetched last, with which a restart needs no API.")
    ] = Path("state")
    log: Annotated[ProcessLogSettings, About("Log", "The process log.")] = field(default_factory=ProcessLogSettings)


def build_decoder_node(tables: Mapping[str, Any], path: Path) -> DecoderNode:
    """The settings in parsed TOML tables, paths relative to the folder of `path`; raises InvalidSite with every
    problem."""
    try:
        node: DecoderNode = TypeAdapter(DecoderNode).validate_python(tables)
    except ValidationError as error:
        problems = [problem_of("", DecoderNode, item) for item in error.errors()]
        raise InvalidSite(problems, str(path)) from None
    folder, decoder = path.parent, node.decoder
    api = decoder.api
    settings = replace(
        decoder,
        api=f"{UNIX}{folder / api.removeprefix(UNIX)}" if api.startswith(UNIX) else api,
        token_file=folder / decoder.token_file,
        ca=decoder.ca and folder / decoder.ca,
        listen=folder / decoder.listen,
        http=decoder.http and folder / decoder.http,
    )
    return replace(node, decoder=settings, state_dir=folder / node.state_dir)
