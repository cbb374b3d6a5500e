"""Pods of deploy/kubernetes by podman: user, capabilities, files, variables and arguments as the manifest has them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.deploy.engine import USER, Engine
from tests.deploy.kustomize import FOLDER, render
from tests.node.serving import within

OBJECTS = render(FOLDER)
NETWORK = "kubernetes"
PASSWORD = "database-password"


class Pods:
    """A network with the database that the node files name, and with the pods that are started."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._folder = engine.folder / "pods"
        self._secrets = {"dnsvip": self._folder / "dnsvip", "dnsvip-console-tls": self._folder / "dnsvip-console-tls"}
        for folder in self._secrets.values():
            folder.mkdir(parents=True)
        self._folder.chmod(0o755)
        tls, console = self._folder / "tls", self._secrets["dnsvip-console-tls"]
        tls.mkdir()
        _certificate("db.example.test", tls / "db.pem", tls / "db.key")
        _certificate("dnsvip-console.dnsvip.svc", console / "tls.crt", console / "tls.key")
        (self._secrets["dnsvip"] / "database-ca.pem").write_bytes((tls / "db.pem").read_bytes())
        for path in (tls, *tls.iterdir()):
            os.chown(path, USER, USER)
        self.variables = {"DNSVIP_KEY": "a2V5LWVuY3J5cHRpb24ta2V5LWZvci10aGUtdGVzdHM=", "PGPASSWORD": PASSWORD}
        engine.run("podman", "network", "create", NETWORK)
        self._start_database(tls)

    def _start_database(self, tls: Path) -> None:
        account = {"POSTGRES_USER": "dnsvip", "POSTGRES_DB": "dnsvip", "POSTGRES_PASSWORD": PASSWORD}
        where = (f"--network={NETWORK}", "--network-alias=db.example.test", f"--volume={tls}:/tls:U")
        settings = ("ssl=on", "ssl_cert_file=/tls/db.pem", "ssl_key_file=/tls/db.key")
        self.engine.run(
            "podman", "run", "--detach", "--name=db", *where,
            *(f"--env={key}={value}" for key, value in account.items()),
            "localhost/services", *(word for setting in settings for word in ("-c", setting)),
        )  # fmt: skip
        ready = ("podman", "exec", "db", "sh", "-c", "/usr/lib/postgresql/*/bin/pg_isready -h 127.0.0.1")
        within(60, lambda: self.engine.call(*ready).returncode == 0)

    def start(self, workload: dict[str, Any]) -> None:
        """Start a workload's container by its own name."""
        spec = workload["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        context = {**spec.get("securityContext", {}), **container["securityContext"]}
        name = workload["metadata"]["name"]
        confined = [
            "--read-only", "--read-only-tmpfs=false", "--security-opt=no-new-privileges",
            f"--user={context['runAsUser']}:{context['runAsGroup']}",
            *(f"--cap-drop={each}" for each in context["capabilities"]["drop"]),
            *(f"--cap-add={each}" for each in context["capabilities"].get("add", ())),
        ]  # fmt: skip
        variables = [f"--env={each['name']}={self.variables[each['name']]}" for each in container["env"]]
        files = self._files(workload, context.get("fsGroup", context["runAsGroup"]))
        entry = [f"--entrypoint={json.dumps(container['command'])}"] if "command" in container else []
        self.engine.run(
            "podman", "run", "--detach", f"--name={name}", f"--hostname={name}", f"--network={NETWORK}",
            *confined, *variables, *files, *entry, "localhost/dnsvip", *container["args"],
        )  # fmt: skip

    def _files(self, workload: dict[str, Any], group: int) -> list[str]:
        spec = workload["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        options: list[str] = []
        for mount in spec["containers"][0]["volumeMounts"]:
            path, volume = mount["mountPath"], volumes.get(mount["name"], {"claim": {}})
            own = self._folder / f"{workload['metadata']['name']}-{mount['name']}"
            match volume:
                case {"configMap": {"name": name}}:
                    own.mkdir()
                    for file, text in _config(name).items():
                        (own / file).write_text(text)
                    options.append(f"--volume={own}:{path}:ro")
                case {"secret": {"secretName": name}}:
                    options.append(
                        f"--volume={self._secret(name, group, volume['secret'].get('defaultMode'))}:{path}:ro"
                    )
                case {"emptyDir": _}:
                    own.mkdir()
                    own.chmod(0o777)  # as kubelets make it
                    options.append(f"--volume={own}:{path}")
                case {"hostPath": {"type": "CharDevice", "path": device}}:
                    options.append(f"--device={device}:{path}")
                case {"hostPath": _} | {"claim": _}:
                    own.mkdir()
                    os.chown(own, USER, USER)
                    options.append(f"--volume={own}:{path}{':U' if 'claim' in volume else ''}")
        return options

    def _secret(self, name: str, group: int, mode: int | None) -> Path:
        """The folder of a secret; with a mode, its files belong to root and the pod's group."""
        folder = self._secrets[name]
        if mode is not None:
            for path in folder.iterdir():
                path.chmod(mode)
                os.chown(path, USER, 200_000 + group - 1)  # rootless.sh maps 1 and up to 200000 and up
        return folder

    def wait(self, workload: dict[str, Any], kind: str) -> None:
        """Wait until a probe of the workload succeeds, as long as its container runs."""
        name = workload["metadata"]["name"]

        def succeeds() -> bool:
            state = self.engine.run("podman", "inspect", "--format={{.State.Status}}", name)
            assert state == "running", self.engine.call("podman", "logs", name)
            return self.probe(workload, kind)

        within(90, succeeds)

    def probe(self, workload: dict[str, Any], kind: str) -> bool:
        """Whether a probe of the workload succeeds."""
        argv = ("podman", "exec", workload["metadata"]["name"], "curl", "-sf", probe_url(workload, kind))
        return self.engine.call(*argv).returncode == 0


def probe_url(workload: dict[str, Any], kind: str) -> str:
    """What a probe of the workload asks, seen from the pod."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    get = container[f"{kind}Probe"]["httpGet"]
    (port,) = [each["containerPort"] for each in container["ports"] if each["name"] == get["port"]]
    return f"http://127.0.0.1:{port}{get['path']}"


def _config(name: str) -> dict[str, str]:
    (found,) = [each["data"] for each in OBJECTS if each["kind"] == "ConfigMap" and each["metadata"]["name"] == name]
    return dict(found)


def _certificate(name: str, certificate: Path, key: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate.chmod(0o644)
    key.chmod(0o600)
