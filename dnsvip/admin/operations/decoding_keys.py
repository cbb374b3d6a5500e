"""/clusters/NAME/decoding-keys: what a decoder needs to read a cluster's addresses. The answer is a secret."""

from __future__ import annotations

from aiohttp import web

from dnsvip.admin.http import bodies
from dnsvip.admin.http.operation import ROOT, Operation
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.node import NODE
from dnsvip.decoder.keys import DecodingKeys, make, to_json
from dnsvip.site.rights import Action


async def get(request: web.Request) -> web.Response:
    """The keys that read the addresses of a cluster, for `dnsvip decoder`.

    They are given to tokens that may `write` the kind `decoder`: a right to look at everything is none to keys.
    """
    name, snapshot = request.match_info["cluster"], request.app[NODE].snapshot()
    cluster = snapshot.site.clusters.get(name)
    if cluster is None:
        raise Refusal("not-found", f"There is no cluster {name!r}.")
    shown = to_json(make(snapshot, cluster))
    headers = {"ETag": bodies.etag(shown), "Cache-Control": "no-store"}
    if bodies.is_fresh(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    return bodies.answer(shown, headers=headers)


ROUTES = [
    Operation(
        "GET",
        f"{ROOT}/clusters/{{cluster}}/decoding-keys",
        get,
        "decoder",
        name="cluster",
        does=Action.WRITE,
        answer=DecodingKeys,
    )
]
