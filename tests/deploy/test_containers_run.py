"""The image and the compose file, run by a rootless podman: database, DNS nodes, a dispatcher, servers, a client."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.engine import Engine, engine
from tests.deploy.images import BASE, build_images
from tests.deploy.pods import OBJECTS, Pods, probe_url
from tests.node.serving import within

pytestmark = [
    pytest.mark.release,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.timeout(600),
]  # mmdebstrap and a package index may be slow

ROOT = Path(__file__).parents[2]
VARIABLES = {
    "DNSVIP_KEY": "a2V5LWVuY3J5cHRpb24ta2V5LWZvci10aGUtdGVzdHM=",
    "POSTGRES_IMAGE": "localhost/services",
    "PROMETHEUS_IMAGE": "localhost/services",
    "COMPOSE_PROJECT_NAME": "t",
}
NODES = ("dns1", "dns2", "dispatch")
FAST = ("localhost/dnsvip", "--version")


@pytest.fixture(scope="module")
def podman() -> Iterator[Engine]:
    """An engine with the image, and with stand-ins for those of the registries."""
    if os.geteuid() != 0:
        pytest.skip("namespaces in which nobody may run containers are made by root")
    with engine() as started:
        sources = started.folder / "sources"
        sources.mkdir(mode=0o755)
        build_images(started, sources)
        yield started


@pytest.fixture(scope="module")
def chain(podman: Engine) -> Callable[..., str]:
    """docker-compose on the project, started."""
    folder = podman.folder / "sources" / "deploy" / "container"

    def compose(*words: str) -> str:
        return podman.run("docker-compose", *words, cwd=folder, **VARIABLES)

    compose("up", "--no-build", "--detach")
    return compose


def inside(podman: Engine, service: str, *argv: str) -> str:
    """What a program prints in a running container."""
    return podman.run("podman", "exec", f"t_{service}_1", *argv)


def api(podman: Engine, path: str, *options: str) -> Any:
    """JSON of the API, asked at its published port."""
    token = inside(podman, "dns1", "cat", "/console/token")
    words = ("curl", "-sk", "--fail-with-body", "-H", f"Authorization: Bearer {token}", *options)
    return json.loads(podman.run(*words, f"https://127.0.0.1:8053/api/v1/{path}") or "null")


def test_the_image_is_small_and_closed(podman: Engine) -> None:
    """It runs without root, capabilities or a place to write; it has the locked packages, and nothing that installs."""
    ours, base = (
        int(podman.run("podman", "image", "inspect", "--format={{.Size}}", name)) for name in ("localhost/dnsvip", BASE)
    )
    assert ours - base < 160 << 20
    confined = ("--rm", "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--network=none")
    run = ("podman", "run", *confined, "--security-opt=no-new-privileges")
    assert podman.run(*run, *FAST).startswith("dnsvip, version ")
    script = """
    id -u; stat -c %a:%u /var/lib/dnsvip /certs /console; touch /here 2>&1 || true
    command -v pip gcc clang-19 || true
    cd /opt/dnsvip/lib/python3*/site-packages && ls -d dnsvip/__pycache__ *.dist-info
    """
    said = podman.run(*run, "--entrypoint=sh", "localhost/dnsvip", "-c", script).splitlines()
    assert said[:4] == ["5353", "700:5353", "700:5353", "700:5353"]
    assert "Read-only file system" in said[4]
    assert said.pop(5 + said[5:].index("dnsvip/__pycache__"))
    installed = dict(line.removesuffix(".dist-info").replace("_", "-").lower().rsplit("-", 1) for line in said[5:])
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "deploy" / "requirements.lock").read_text(), re.MULTILINE))
    assert installed.pop("dnsvip")
    assert len(installed) > 40
    assert installed.items() <= locked.items()


def test_a_client_connects(podman: Engine, chain: Callable[..., str]) -> None:
    """The client asks a DNS node, connects to the address through the dispatcher, and a server answers."""
    assert podman.run("podman", "wait", "t_client_1") == "0"
    assert re.fullmatch(r"answered 2001:db8:a:1::1\nslow-[12]", podman.run("podman", "logs", "t_client_1"))


def test_a_known_client_gets_its_own_address(podman: Engine, chain: Callable[..., str]) -> None:
    """A client whose tier is set over the published API gets an encoded address, and is served by that tier's pool."""
    client = json.dumps({"id": 77, "tier": "gold", "match": [{"source": "fd00:53::c/128"}]})
    options = ("-X", "PUT", "-H", "Content-Type: application/json", "-d", client)
    assert api(podman, "clients/desk", *options)["tier"] == "gold"

    def answered() -> bool:
        podman.run("podman", "start", "t_client_1")
        podman.run("podman", "wait", "t_client_1")
        said = podman.run("podman", "logs", "t_client_1").splitlines()[-2:]
        return said[0] != "answered 2001:db8:a:1::1" and said[1] == "fast-1"

    within(30, answered)


def test_every_node_is_healthy(podman: Engine, chain: Callable[..., str]) -> None:
    """The health checks pass, all nodes are in the registry, and Prometheus reads each of them."""
    for name in NODES:
        within(30, lambda name=name: podman.call("podman", "healthcheck", "run", f"t_{name}_1").returncode == 0)
    within(10, lambda: {node["name"] for node in api(podman, "nodes")["items"]} == set(NODES))

    def scraped() -> set[tuple[str, str]]:
        found = json.loads(podman.run("curl", "-sf", "http://127.0.0.1:9090/api/v1/targets"))["data"]["activeTargets"]
        return {(target["labels"]["instance"], target["health"]) for target in found}

    within(60, lambda: scraped() == {(f"{name}:{9154 if name == 'dispatch' else 9153}", "up") for name in NODES})


def test_published_ports(podman: Engine, chain: Callable[..., str]) -> None:
    """DNS answers at the published port, by UDP and TCP; the API asks for a token there."""
    for options in ((), ("+tcp",)):
        ask = ("dig", "@127.0.0.1", "-p", "5353", "+short", *options, "AAAA", "www.example.test")
        assert podman.run(*ask) == "2001:db8:a:1::1"
    refused = podman.run(
        "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://127.0.0.1:8053/api/v1/clients"
    )
    assert refused == "401"


@pytest.mark.parametrize(("name", "capabilities"), [("dns1", 0), ("dispatch", 0x3002), ("fast-1", 0x1400)])
def test_privileges(podman: Engine, chain: Callable[..., str], name: str, capabilities: int) -> None:
    """A container has exactly its capabilities and cannot get more; seccomp filters it; its image is read-only."""
    status = dict(line.split(":\t", 1) for line in inside(podman, name, "cat", "/proc/1/status").splitlines())
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == capabilities
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split()[0] == ("5353" if name == "dns1" else "0")
    assert "Read-only" in podman.call("podman", "exec", f"t_{name}_1", "touch", "/here").stderr


def test_no_token_in_a_log(podman: Engine, chain: Callable[..., str]) -> None:
    """Whichever node starts first writes the first token to a file that only its user may read, not to its log."""
    token = inside(podman, "dns2", "cat", "/console/token")
    assert inside(podman, "dns1", "stat", "-c", "%a", "/console/token") == "600"
    assert all(token not in podman.run("podman", "logs", f"t_{name}_1") for name in ("dns1", "dns2"))


def test_a_node_stops_cleanly(podman: Engine, chain: Callable[..., str]) -> None:
    """Told to stop, each program ends by itself, before the engine would kill it; the other DNS node answers on."""
    for name in ("dns1", "dispatch", "slow-1"):
        assert podman.run("podman", "inspect", "--format={{.Config.StopTimeout}}", f"t_{name}_1") == "15"
        podman.run("podman", "stop", "--time=60", f"t_{name}_1")  # far more, for a busy machine
        assert podman.run("podman", "inspect", "--format={{.State.ExitCode}}", f"t_{name}_1") == "0"
    ask = "import dns.resolver as r; print(r.make_resolver_at('::1').resolve('www.example.test', 'AAAA')[0])"
    assert inside(podman, "dns2", "python", "-c", ask) == "2001:db8:a:1::1"


WORKLOADS = {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] in {"StatefulSet", "DaemonSet"}}


@pytest.fixture(scope="module")
def pods(podman: Engine) -> Pods:
    """The pods of the Kubernetes manifests, with the site of the examples, applied as the page says."""
    started = Pods(podman)
    for workload in WORKLOADS.values():
        started.start(workload)
    started.wait(WORKLOADS["dnsvip-console"], "readiness")
    shutil.copytree(ROOT / "examples", podman.folder / "pods" / "examples")
    apply = "cd /tmp && tar x && dnsvip apply site.toml --config /etc/dnsvip/node.toml"
    podman.run("sh", "-c", f"tar c site.toml example.test.zone | podman exec -i dnsvip-console sh -c '{apply}'",
               cwd=podman.folder / "pods" / "examples")  # fmt: skip
    return started


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_pod_gets_ready(pods: Pods, name: str) -> None:
    """With the user, capabilities, files and variables of its manifest a container starts and passes its probes."""
    for kind in ("startup", "liveness", "readiness"):
        pods.wait(WORKLOADS[name], kind)
    status = pods.engine.run("podman", "exec", name, "cat", "/proc/1/status")
    (container,) = WORKLOADS[name]["spec"]["template"]["spec"]["containers"]
    added = len(container["securityContext"]["capabilities"].get("add", ()))
    assert int(re.findall(r"^CapBnd:\s*(\w+)", status, re.MULTILINE)[0], 16).bit_count() == added
    assert re.findall(r"^Uid:\s*(\d+)", status, re.MULTILINE) == ["0" if added else "5353"]


def test_pods_do_their_work(pods: Pods) -> None:
    """A DNS pod answers the site, the dispatcher takes its prefix, the API shows all by TLS with the first token."""
    ask = (
        "from dns import message, query; "
        "print(query.udp(message.make_query('www.example.test', 'AAAA'), '127.0.0.1', port=5353))"
    )
    within(10, lambda: "2001:db8:a:1::1" in pods.engine.run("podman", "exec", "dnsvip-dns", "python", "-c", ask))
    routes = ("podman", "exec", "dnsvip-dispatch", "ip", "-6", "route")
    within(10, lambda: "2001:db8:a:1::/64 dev dnsvip0" in pods.engine.run(*routes))
    ask = 'curl -sk -H "Authorization: Bearer $(cat /var/lib/dnsvip/first/token)" https://127.0.0.1:8053/api/v1/nodes'

    def nodes() -> set[str]:
        found = json.loads(pods.engine.run("podman", "exec", "dnsvip-console", "sh", "-c", ask))["items"]
        return {node["name"] for node in found if node["live"]}

    within(10, lambda: nodes() == set(WORKLOADS))


def test_pods_end_with_grace(pods: Pods) -> None:
    """Told to end, a pod is not ready at once, but alive while others learn of it; then it ends by itself."""
    status = "curl -s -o /dev/null -w '%{http_code} '"
    for name, workload in WORKLOADS.items():
        ready, alive = (f"{status} '{probe_url(workload, kind)}'" for kind in ("readiness", "liveness"))
        said = pods.engine.run("podman", "exec", name, "sh", "-c", f"{ready}; kill -TERM 1; sleep 1; {ready}; {alive}")
        assert said == "200 503 200"
    assert pods.engine.run("podman", "wait", *WORKLOADS).split() == ["0"] * len(WORKLOADS)
