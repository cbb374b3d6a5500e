"""The container and compose files, checked without an engine: syntax, files, scripts, node file."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dnsvip.site.io.files import load_node

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "container"
INSTRUCTIONS = {"FROM", "ARG", "RUN", "COPY", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"}


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    """The compose file as docker-compose parses it."""
    done = subprocess.run(
        ["docker-compose", "-f", FOLDER / "compose.yaml", "config"],
        env={**os.environ, "DNSVIP_KEY": "key"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    return document


def instructions() -> list[tuple[str, str]]:
    """The container file's instructions and their arguments, continuation lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (FOLDER / "Containerfile").read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_the_key_must_be_given() -> None:
    """Without a key-encryption key nothing starts, and the error shows how to generate one."""
    environment = {key: value for key, value in os.environ.items() if key != "DNSVIP_KEY"}
    argv = ["docker-compose", "-f", FOLDER / "compose.yaml", "config", "-q"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "openssl rand -base64 32" in done.stderr


def test_container_file() -> None:
    """Every instruction is known, every shell line parses, and the final user is not root."""
    steps = instructions()
    assert {name for name, _ in steps} <= INSTRUCTIONS
    for name, words in steps:
        if name == "RUN":
            subprocess.run(["sh", "-n", "-c", words], check=True)
    assert [words for name, words in steps if name == "USER"][-1] == "5353:5353"
    assert ("ENTRYPOINT", '["dnsvip"]') in steps


def test_state_is_private() -> None:
    """The folder of state in the image has mode 0700, also where useradd makes home folders readable."""
    (words,) = [words for name, words in instructions() if name == "RUN" and "useradd" in words]
    assert "-m 700 /certs /console /var/lib/dnsvip" in words
    assert words.index("useradd") < words.index("-m 700")


def test_services_are_closed(composed: dict[str, Any]) -> None:
    """Our services drop all but the listed capabilities, write to volumes only, and publish ports on loopback only."""
    ours = {name: one for name, one in composed["services"].items() if one.get("image") == "dnsvip"}
    assert set(ours) == {"setup", "dns1", "dns2", "dispatch", "fast-1", "slow-1", "slow-2", "client"}
    assert all(one["cap_drop"] == ["ALL"] and one["read_only"] for one in ours.values())
    assert set(ours["dispatch"]["cap_add"]) == {"NET_ADMIN", "NET_RAW", "DAC_OVERRIDE"}
    assert "cap_add" not in ours["dns1"]
    ports = [port for one in composed["services"].values() for port in one.get("ports", ())]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_scripts_and_files(composed: dict[str, Any]) -> None:
    """Every script parses and every mounted file exists."""
    for one in composed["services"].values():
        entry = one.get("entrypoint") or []
        if entry[:2] == ["sh", "-euc"]:
            subprocess.run(["sh", "-n", "-c", entry[2].replace("$$", "$")], check=True)
        for volume in one.get("volumes", ()):
            source = str(volume).partition(":")[0]
            assert not source.startswith("/") or Path(source).exists(), shlex.quote(source)


def test_the_node_file_loads(composed: dict[str, Any]) -> None:
    """The containers' node file is valid and uses the password that PostgreSQL gets."""
    node = load_node(FOLDER / "node.toml")
    database = composed["services"]["db"]["environment"]
    assert f"dnsvip:{database['POSTGRES_PASSWORD']}@db/{database['POSTGRES_DB']}" in node.database
    jobs = (FOLDER / "prometheus.yml").read_text()
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", FOLDER / "prometheus.yml"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(f'"{name}:' in jobs for name in ("dns1", "dns2", "dispatch"))


DIGEST = "@sha256:" + "0a" * 32
PINS = {
    "DEBIAN_IMAGE": f"docker.example/debian{DIGEST}",
    "POSTGRES_IMAGE": f"postgres{DIGEST}",
    "PROMETHEUS_IMAGE": f"prom/prometheus{DIGEST}",
}


def images(word: str, file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FOLDER / "images.sh", word],
        env={**os.environ, "IMAGES": str(file), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("bad", [None, *PINS])
def test_unpinned_images_are_refused(tmp_path: Path, bad: str | None) -> None:
    """`images.sh check` passes where every image has a digest, and names each that has none."""
    file = tmp_path / "images.env"
    lines = [f"{name}={image if name != bad else 'debian:bookworm'}" for name, image in PINS.items()]
    file.write_text("\n".join(lines) + "\n")
    done = images("check", file)
    assert done.returncode == (1 if bad else 0), done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ([bad] if bad else [])


def test_nothing_is_pinned_yet(tmp_path: Path) -> None:
    """Without a file of pins all are refused, and how to pin is said."""
    done = images("check", tmp_path / "none")
    assert done.returncode == 1
    assert {line.split(":")[0] for line in done.stderr.splitlines()} == set(PINS)
    assert "images.sh pin" in done.stderr


def test_pinning(tmp_path: Path) -> None:
    """`images.sh pin` asks the engine for each image's digest and writes a file that passes the check."""
    engine = tmp_path / "engine"
    engine.write_text(f"""#!/bin/sh
echo "$*" >> {tmp_path}/asked
[ "$1" = image ] && echo "registry.example/${{5%%:*}}{DIGEST}"
exit 0
""")
    engine.chmod(0o755)
    done = images("pin", tmp_path / "images.env", ENGINE=str(engine))
    assert done.returncode == 0, done.stderr
    written = dict(line.split("=") for line in (tmp_path / "images.env").read_text().splitlines())
    assert written == {
        "DEBIAN_IMAGE": f"registry.example/debian{DIGEST}",
        "POSTGRES_IMAGE": f"registry.example/postgres{DIGEST}",
        "PROMETHEUS_IMAGE": f"registry.example/prom/prometheus{DIGEST}",
    }
    assert (tmp_path / "asked").read_text().count("pull --quiet") == 3


def test_images_can_be_pinned(composed: dict[str, Any]) -> None:
    """Every image that is not ours comes from a variable, which compose and build take from the file of pins."""
    done = subprocess.run(
        ["docker-compose", "-f", FOLDER / "compose.yaml", "config"],
        env={**os.environ, "DNSVIP_KEY": "key", **PINS},
        capture_output=True,
        text=True,
        check=True,
    )
    services = yaml.safe_load(done.stdout)["services"]
    foreign = {service["image"] for service in services.values()} - {"dnsvip"}
    assert foreign == {PINS["POSTGRES_IMAGE"], PINS["PROMETHEUS_IMAGE"]}
    built = [service["build"]["args"] for service in services.values() if "build" in service]
    assert all(args["DEBIAN_IMAGE"] == PINS["DEBIAN_IMAGE"] for args in built)
    assert {words.split()[0] for name, words in instructions() if name == "FROM"} == {"${DEBIAN_IMAGE}"}


def test_every_package_is_locked() -> None:
    """Every pip of the container file takes wheels that are there, by the hashes of the lock, and asks no index."""
    parts = [part for name, words in instructions() if name == "RUN" for part in words.split("&&")]
    locked, own = [part for part in parts if "pip install" in part]
    assert "--no-index" in locked
    assert "--require-hashes --requirement /wheels/requirements.lock" in locked
    assert "--no-index --no-deps /wheels/dnsvip-*.whl" in own
    script = (FOLDER / "wheels.sh").read_text()
    assert script.count("--only-binary :all:") == script.count("--require-hashes") == 2
    subprocess.run(["bash", "-n", FOLDER / "wheels.sh"], check=True)


def test_what_goes_into_a_build() -> None:
    """All that the build copies is let in, and nothing else: no sources, no virtual environment, no secrets."""
    lines = (ROOT / ".containerignore").read_text().splitlines()
    assert lines[1:] == ["**", "!build/wheels"]
    copied = [words.split()[0] for name, words in instructions() if name == "COPY" and not words.startswith("--from")]
    assert copied == ["build/wheels"]
