"""The OpenAPI document: complete, well formed, and true of the running server (schemathesis)."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from dnsvip.admin.http.words import models
from dnsvip.site import rights
from dnsvip.site.declare import declared
from dnsvip.site.registry import KINDS
from tests.admin.conftest import Api
from tests.admin.stateful import BODIES
from tests.long import LONG, long_or
from tests.node.serving import node

ST = Path(sys.executable).with_name("st")

HOOKS = Path(__file__).with_name("stateful.py")

LEFT_OUT = {
    "positive_data_acceptance": "whether a body is taken depends on the site: its tiers, clusters, codes and ids",
    "ignored_auth": "it sends hundreds of wrong tokens and is made to wait (429); test_refusals.py has it",
}
"""Check -> why it is left out."""

SETTINGS = """
request-timeout = 60
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 429]
"""
"""A body over 64 KiB is read by a process, whose start takes seconds where every CPU is busy; by default it waits 10 s.
A precondition that fails is told before the body is looked at (RFC 9110 section 13.2.1), so 412 refuses too."""

NEVER = """
[[operations]]
include-operation-id-regex = "_tokens_name|_api_docs"
enabled = false
"""
"""A token that is changed or deleted by chance would end the run; the pages to browse are no JSON."""

SAMPLE = """
[phases.coverage]
unexpected-methods = []
[[operations]]
include-operation-id-regex = "^(get|patch|delete)_(clusters|dns_groups|pools|services|tiers|tsig|zones)(_name)?$"
enabled = false
[[operations]]
include-operation-id-regex = "^(patch|delete)_clients_name$|^patch_classify$|^get_(decode|explain|usage)$"
enabled = false
[[operations]]
include-operation-id-regex = "_(export|history)$"
enabled = false
[[operations]]
include-operation-id-regex = "^put_(clients|clusters|dns_groups|pools|services|tsig|zones)_name|^p.*_zones_zone$"
generation.mode = "positive"
[[operations]]
include-operation-id-regex = "^post_(apply|explain|tokens)$"
generation.mode = "positive"
"""
"""In a sample, operations whose code is that of others are left out: of lists those of clients and audit rows stay, of
objects tiers. Of other kinds what is put differs, so they get what they allow; all refuse by the same code."""


async def test_every_path_is_described(api: Api) -> None:
    """Each operation of the API stands in the document with an answer and its problems, and names a known scope."""
    document = await api.ok("GET", "openapi.json")
    served = {
        (route.method.lower(), re.sub(r":.*?\+}", "}", route.resource.canonical))
        for route in api.client.server.app.router.routes()  # type: ignore[attr-defined]
        if route.resource and route.method != "HEAD" and route.resource.canonical.startswith("/api/")
    }
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert {(method, path) for method, path in served if "(?!" not in path} <= described
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids)) > 60
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert {"401", "403", "503"} <= operation["responses"].keys()
            for scope in re.findall(r"scope `\w+:(\w+)`", operation["description"]):
                assert scope in rights.KINDS


@pytest.mark.parametrize("path", ["v1/openapi.json", "docs", "docs.css"])
async def test_anybody_may_read_it_at_no_cost(api: Api, path: str) -> None:
    """The document and its page are made and compressed once: nobody can make the process that answers DNS do it again
    and again."""
    app = api.client.server.app  # type: ignore[attr-defined]
    handler = next(route.handler for route in app.router.routes() if route.resource.canonical == f"/api/{path}")
    for coding in ("identity", "gzip"):
        request = make_mocked_request("GET", f"/api/{path}", {"Accept-Encoding": coding}, app=app)
        first, begin = await handler(request), time.thread_time()
        second = await handler(request)
        assert time.thread_time() - begin < 0.003
        assert second.headers.get("Content-Encoding", "identity") == coding
        assert (gzip.decompress(second.body) if coding == "gzip" else second.body) == await _plain(api, path)
        assert second.body is first.body


async def _plain(api: Api, path: str) -> bytes:
    async with api.client.get(f"/api/{path}") as answer:
        return await answer.read()


async def test_references_lead_somewhere(api: Api) -> None:
    """Every reference in the document leads to a part of it, and nothing of the models is lost."""
    document = await api.ok("GET", "openapi.json")
    text = json.dumps(document)
    for reference in set(re.findall(r'"#/([^"]+)"', text)):
        place = document
        for part in reference.split("/"):
            place = place[part]
    client = document["components"]["schemas"]["Client"]["properties"]
    assert client["match"]["items"]["properties"].keys() >= {"source", "tsig", "ecs"}
    assert "secret" not in document["components"]["schemas"]["TsigKeyShown"]["properties"]


async def test_forms_can_be_made_of_it(api: Api) -> None:
    """Each field has its words, its place and its choices beside its type, and each kind its path, words and forms."""
    document = await api.ok("GET", "openapi.json")
    schemas = document["components"]["schemas"]
    for model in models():
        for name in (model.__name__, f"{model.__name__}Shown"):
            for key, schema in schemas.get(name, {"properties": {}})["properties"].items():
                field, shown = declared(model)[key], schema["x-ui"]
                assert (shown["label"], shown["help"]) == (field.about.label, field.about.help)
                assert shown["order"] == field.order
                assert [choice["value"] for choice in shown.get("choices", [])] == list(field.choices)
    step = schemas["Classify"]["properties"]["order"]["items"]["x-ui"]["choices"][3]
    assert (step["value"], step["label"], step["help"][:9]) == ("ecs", "EDNS Client Subnet", "A network")
    kinds = document["x-kinds"]
    assert [kind["kind"] for kind in kinds] == list(KINDS)
    for kind in kinds:
        assert f"{kind['path']}/{{name}}" in document["paths"] or not kind["named"]
        assert all(name in schemas and f"{name}Shown" in schemas for name in kind["schemas"])
    pair = schemas["Cluster"]["properties"]["layout"]["items"]["prefixItems"]
    assert [item["x-ui"]["label"] for item in pair] == ["Field", "Bits"]
    assert schemas["Zone"]["properties"]["text"]["contentMediaType"] == "text/dns"
    assert schemas["Check"]["properties"]["ca"]["contentMediaType"] == "application/x-pem-file"


async def test_links_lead_to_operations(api: Api) -> None:
    """What makes an object links to everything else that can be done at its path, by operations that there are."""
    paths = (await api.ok("GET", "openapi.json"))["paths"]
    links = paths["/api/v1/pools/{name}/servers/{server}"]["put"]["responses"]["201"]["links"]
    by_id = {one["operationId"]: one for one in paths["/api/v1/pools/{name}/servers/{server}"].values()}
    assert links.keys() == by_id.keys() - {"put_pools_name_servers_server"}
    for link in links.values():
        assert link["operationId"] in by_id
        assert link["parameters"] == {"name": "$request.path.name", "server": "$request.path.server"}
    assert "links" not in paths["/api/v1/clients"]["get"]["responses"]["200"]


async def test_docs_page(api: Api) -> None:
    """The page to browse needs no token, no script and nothing from elsewhere, and shows every operation."""
    async with api.client.get("/api/docs") as response:
        text, policy = await response.text(), response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!/|#)', text)
    for path in (await api.ok("GET", "openapi.json"))["paths"]:
        assert path.replace("{", "{") in text
    async with api.client.get("/api/docs.css") as response:
        assert response.status == 200


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_schemathesis(tmp_path: Path) -> None:
    """Whatever is sent to the running server by its own document, it answers as that says, and never with a 500."""
    settings = SETTINGS + NEVER + ("" if LONG else SAMPLE)
    said = run(tmp_path, settings, "--phases", f"examples,coverage{',fuzzing' * LONG}", "--max-examples", "2")
    tested = re.search(r"Tested: +(\d+)", said)
    assert tested
    assert int(tested[1]) > (75 if LONG else 40), said


@pytest.mark.slow
def test_schemathesis_along_the_links(tmp_path: Path) -> None:
    """Objects that are made can be looked at until they are removed, and then no longer, in whatever order."""
    kinds = "|".join(path.split("/")[3] for path in BODIES)
    some = ["--include-path-regex", f"^/api/v1/({kinds})/.name}}(/servers/.server}})?$"]
    examples = str(long_or(12, long=60))
    settings = f'hooks = "{HOOKS}"\n{SETTINGS}'
    said = run(tmp_path, settings, "--phases", "stateful", "--mode", "positive", "--max-examples", examples, *some)
    walked = re.search(r"API Links: +(\d+) covered", said)
    assert walked
    assert int(walked[1]) > 3, said


def run(folder: Path, settings: str, *options: str) -> str:
    """What schemathesis says of a node with the example site; all must be well."""
    with node(folder) as served:
        served.apply()
        served.start("--token-file", "token")
        (folder / "schemathesis.toml").write_text(settings)
        argv = [str(ST), "--config-file", "schemathesis.toml", "run", f"{served.url}/openapi.json"]
        argv += ["--header", f"Authorization: Bearer {served.token}", "--seed", "1", "--no-color", *options]
        argv += ["--exclude-checks", ",".join(LEFT_OUT), "--continue-on-failure", "--suppress-health-check", "all"]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=850, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Unhandled" not in served.log
        return done.stdout


async def test_making_it_keeps_nobody_waiting(api: Api) -> None:
    """What anybody may ask for is made beside other work, however many ask for it first."""
    longest = 0.0

    async def others() -> None:
        nonlocal longest
        while True:
            begun = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - begun)

    working = asyncio.ensure_future(others())
    paths = ["/api/v1/openapi.json", "/api/docs"] * 3
    for answer in await asyncio.gather(*map(api.client.get, paths)):
        assert answer.status == 200
    working.cancel()
    assert longest < 0.05
