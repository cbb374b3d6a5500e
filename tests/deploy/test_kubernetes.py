"""The Kubernetes manifests: schemas, Pod Security, references, alerts; test_containers_run.py runs their pods."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dnsvip.site.io.files import load_node
from tests.deploy.kustomize import FOLDER, Document, render

ROOT = Path(__file__).parents[2]
FOLDERS = (".", "xdp", "monitoring")
OPERATORS = {"monitoring.coreos.com/v1"}
"""Kinds of operators, which Kubernetes' own schemas do not have."""

ALL = [document for folder in FOLDERS for document in render(FOLDER / folder)]


with_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing")


def objects(*kinds: str, folders: tuple[str, ...] = FOLDERS) -> list[Document]:
    return [each for folder in folders for each in render(FOLDER / folder) if each["kind"] in kinds]


def workloads(*folders: str) -> list[Document]:
    return objects("StatefulSet", "DaemonSet", "Deployment", folders=folders or (".", "xdp"))


def pod_of(workload: Document) -> Document:
    pod: Document = workload["spec"]["template"]
    return pod


def matches(selector: Document, labels: Document) -> bool:
    return selector.items() <= labels.items()


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and its value, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_schemas(version: str) -> None:
    """Every object is valid, and has no key that Kubernetes does not know."""
    checked = [each for each in ALL if each["apiVersion"] not in OPERATORS]
    assert len(checked) > 20
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)
    broken = json.loads(json.dumps(checked[0])) | {"spec": {"unknown": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


@with_kubectl
@pytest.mark.parametrize("folder", FOLDERS)
def test_kubectl_renders_the_same(folder: str) -> None:
    """What the other tests look at is what kubectl applies, but for the hashes in names of config maps."""
    assert ordered(rendered(FOLDER / folder)) == ordered(render(FOLDER / folder))


@with_kubectl
def test_an_overlay(tmp_path: Path) -> None:
    """The overlay of the page replaces image and node files, and its objects are valid too."""
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    page = textwrap.dedent((FOLDER / "README.md").read_text().split("```yaml\n")[1].split("   ```")[0])
    (tmp_path / "kustomization.yaml").write_text(page)
    for name in ("dns/dns", "dns/console", "dispatch/dispatch"):
        text = (FOLDER / f"{name}.toml").read_text().replace("db.example.test", "db.of.mine")
        (tmp_path / f"{Path(name).name}.toml").write_text(text)
    made = rendered(tmp_path)
    assert len(made) == len(render(FOLDER)) + len(render(FOLDER / "monitoring"))
    for each in made:
        if each["apiVersion"] not in OPERATORS:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    images = {value for key, value in walk(made) if key == "image"}
    assert images == {"registry.example.test/dnsvip@sha256:..."}
    maps = [each["data"]["node.toml"] for each in made if each["kind"] == "ConfigMap"]
    assert ["db.of.mine" in text and "db.example.test" not in text for text in maps] == [True] * 3


def rendered(folder: Path) -> list[Document]:
    """What kubectl makes of a folder, the hashes in names taken away."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
    text = re.sub(r"(name: dnsvip-\w+)-[0-9a-z]{10}$", r"\1", done.stdout, flags=re.MULTILINE)
    return list(yaml.safe_load_all(text))


def ordered(documents: list[Document]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in documents)


def test_pods_are_restricted() -> None:
    """Pods of DNS nodes and the console fit the Pod Security standard `restricted`, and write to volumes only."""
    checked = workloads("dns")
    (namespace,) = objects("Namespace", folders=("dns",))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"]["namespace"] for each in checked} == {namespace["metadata"]["name"]}
    for workload in checked:
        spec = pod_of(workload)["spec"]
        context = spec["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 5353)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        (container,) = spec["containers"]
        own = container["securityContext"]
        assert own == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert all({"configMap", "secret", "emptyDir"} & volume.keys() for volume in spec["volumes"])
    image = (ROOT / "deploy" / "container" / "Containerfile").read_text()
    assert "USER 5353:5353" in image


@pytest.mark.parametrize(("folder", "added"), [("dispatch", set()), ("xdp", {"BPF", "PERFMON"})])
def test_dispatchers_have_capabilities_only(folder: str, added: set[str]) -> None:
    """A dispatcher is on the host's network with the capabilities of its unit's data plane, and is not privileged."""
    (workload,) = workloads(folder)
    spec = pod_of(workload)["spec"]
    assert spec["hostNetwork"]
    (container,) = spec["containers"]
    own = container["securityContext"]
    assert own["capabilities"]["drop"] == ["ALL"]
    assert set(own["capabilities"]["add"]) == {"NET_ADMIN", "NET_RAW"} | added
    assert (own["privileged"], own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, False, True)
    unit = (ROOT / "deploy" / "systemd" / "dnsvip-dispatch.service").read_text()
    assert all(f"CAP_{name}" in unit for name in own["capabilities"]["add"])
    host = {volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    assert host == {"/dev/net/tun", "/var/lib/dnsvip-dispatch"} | ({"/sys/fs/bpf"} if added else set())


def test_every_pod_is_bounded_and_probed() -> None:
    """Each container has bounds and the three probes of a port that it has; pods know nothing of the API server."""
    for workload in workloads():
        spec = pod_of(workload)["spec"]
        assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
        (container,) = spec["containers"]
        assert container["resources"]["limits"].keys() == {"memory"}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        ports = {port["name"] for port in container["ports"]}
        probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
        assert {get["port"] for get in probes.values()} == {"metrics"} <= ports
        assert [get["path"].partition("?")[0] for get in probes.values()] == ["/healthz", "/healthz", "/readyz"]


def test_what_is_named_exists() -> None:
    """Volumes, config maps, ports, pods behind selectors: every reference between the objects leads somewhere."""
    maps = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in objects("ConfigMap")}
    pods = [(each["metadata"]["namespace"], pod_of(each)) for each in workloads()]
    services = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in objects("Service")}
    for workload in workloads():
        namespace, spec = workload["metadata"]["namespace"], pod_of(workload)["spec"]
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        volumes = {volume["name"] for volume in spec["volumes"]} | claims
        (container,) = spec["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        used = {(namespace, volume["configMap"]["name"]) for volume in spec["volumes"] if "configMap" in volume}
        assert used <= maps
        assert matches(workload["spec"]["selector"]["matchLabels"], pod_of(workload)["metadata"]["labels"])
        if "serviceName" in workload["spec"]:
            assert (namespace, workload["spec"]["serviceName"]) in services
    for kind, selector in (
        ("Service", ()),
        ("PodDisruptionBudget", ("matchLabels",)),
        ("NetworkPolicy", ("matchLabels",)),
    ):
        for each in objects(kind):
            chosen = each["spec"].get("selector", each["spec"].get("podSelector"))
            chosen = chosen.get("matchLabels", {}) if selector else chosen
            behind = [
                pod
                for at, pod in pods
                if at == each["metadata"]["namespace"] and matches(chosen, pod["metadata"]["labels"])
            ]
            assert behind, each["metadata"]["name"]
            open_ports = {port["name"] for pod in behind for port in pod["spec"]["containers"][0]["ports"]}
            named = {
                value for key, value in walk(each["spec"]) if key in {"targetPort", "port"} and isinstance(value, str)
            }
            assert named <= open_ports


def test_node_files_fit_their_pods() -> None:
    """Listeners and paths of each node file are the ports and mounts of its pod."""
    for workload in workloads():
        (container,) = pod_of(workload)["spec"]["containers"]
        node = load_node(FOLDER / source(workload))
        assert container["args"][:2] == [
            "dispatch" if workload["kind"] == "DaemonSet" else "serve",
            "/etc/dnsvip/node.toml",
        ]
        ports = {port["containerPort"] for port in container["ports"]}
        metrics = node.metrics.dispatch_listen if workload["kind"] == "DaemonSet" else node.metrics.listen
        listening = {
            str(metrics),
            *(str(each.address) for each in node.dns.listen if not str(each.address).startswith("127")),
        }
        if node.admin:
            listening.add(str(node.admin.listen))
        assert {
            int(address.rpartition(":")[2])
            for address in listening
            if workload["kind"] != "DaemonSet" or address == str(metrics)
        } == ports
        mounts = tuple(mount["mountPath"] for mount in container["volumeMounts"])
        paths = re.findall(r"[\"=](/(?:run|var|etc|sys)/[\w./-]+)", (FOLDER / source(workload)).read_text())
        assert len(paths) >= 2
        assert all(path.startswith(mounts) for path in paths)


def source(workload: Document) -> str:
    """The file in the tree that becomes the node file of a workload."""
    if workload["kind"] == "DaemonSet":
        capabilities = pod_of(workload)["spec"]["containers"][0]["securityContext"]["capabilities"]["add"]
        return "xdp/dispatch.toml" if "BPF" in capabilities else "dispatch/dispatch.toml"
    return f"dns/{workload['metadata']['name'].removeprefix('dnsvip-')}.toml"


def test_no_secret_is_in_the_tree() -> None:
    """Secrets are named, never held: neither as objects, nor as values of variables, nor in a node file's URL."""
    texts = [path.read_text() for path in FOLDER.rglob("*") if path.suffix in {".yaml", ".toml"}]
    assert len(texts) > 12
    assert not [text for text in texts if re.search(r"^kind: Secret$|postgresql://\w+:", text, re.MULTILINE)]
    for workload in workloads():
        (container,) = pod_of(workload)["spec"]["containers"]
        assert {each["name"] for each in container["env"]} == {"DNSVIP_KEY", "PGPASSWORD"}
        assert all("value" not in each and "secretKeyRef" in each["valueFrom"] for each in container["env"])


def test_the_zone_is_answered_by_unchanged_sources() -> None:
    """DNS is served by UDP and TCP on port 53, with the addresses of who asks; its nodes leave one by one."""
    (service,) = [each for each in objects("Service") if each["spec"].get("type") == "LoadBalancer"]
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert {(port["port"], port["protocol"]) for port in service["spec"]["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert {each["spec"]["maxUnavailable"] for each in objects("PodDisruptionBudget")} == {1}
    policies = {each["metadata"]["name"]: each["spec"] for each in objects("NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_time_to_stop() -> None:
    """Programs work on for a while when told to stop, and their pods have the time for it."""
    for workload in workloads():
        grace = load_node(FOLDER / source(workload)).grace_seconds
        assert 0 < grace <= pod_of(workload)["spec"]["terminationGracePeriodSeconds"] - 20


def test_alerts(tmp_path: Path) -> None:
    """The PrometheusRule is the alerts of deploy/prometheus, as its script makes it; the monitor finds every pod."""
    (rule,) = objects("PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheus" / "dnsvip.rules.yml").read_text())
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    folder = tmp_path / "deploy" / "kubernetes" / "monitoring"
    (folder / "prometheus-rule.yaml").unlink()
    subprocess.run([folder / "prometheus-rule.sh"], check=True)
    assert (folder / "prometheus-rule.yaml").read_bytes() == (
        FOLDER / "monitoring" / "prometheus-rule.yaml"
    ).read_bytes()
    (monitor,) = objects("ServiceMonitor")
    label, port = monitor["spec"]["jobLabel"], monitor["spec"]["endpoints"][0]["port"]
    scraped = [each for each in objects("Service", folders=(".",)) if label in each["metadata"]["labels"]]
    assert {each["metadata"]["namespace"] for each in scraped} == set(
        monitor["spec"]["namespaceSelector"]["matchNames"]
    )
    assert len(scraped) == len(workloads("."))
    assert all([each["name"] for each in service["spec"]["ports"]] == [port] for service in scraped)
    jobs = {
        each["job_name"]
        for each in yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    }
    assert {each["metadata"]["labels"][label] for each in scraped} == jobs
