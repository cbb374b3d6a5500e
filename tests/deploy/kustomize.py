"""What `kubectl kustomize` makes of the folders in deploy/kubernetes, as far as they use it; names get no hash."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
Document = dict[str, Any]


@functools.cache
def render(folder: Path) -> list[Document]:
    """All objects of a folder with a kustomization.yaml, and of those that it names; not to be changed."""
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text())
    known = {"apiVersion", "kind", "resources", "configMapGenerator", "patches"}
    assert wanted.keys() <= known, wanted.keys() - known
    documents: list[Document] = []
    for name in wanted["resources"]:
        path = folder / name
        documents += render(path) if path.is_dir() else [*yaml.safe_load_all(path.read_text())]
    for entry in wanted.get("configMapGenerator", ()):
        if entry.get("behavior") == "replace":
            documents = [each for each in documents if _name(each) != ("ConfigMap", entry["name"])]
        documents.append(_config_map(folder, entry))
    for patch in wanted.get("patches", ()):
        target = (patch["target"]["kind"], patch["target"]["name"])
        (at,) = [number for number, each in enumerate(documents) if _name(each) == target]
        documents[at] = _patched(documents[at], yaml.safe_load(patch["patch"]))
    return documents


def _name(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def _config_map(folder: Path, entry: Document) -> Document:
    pairs = (name.split("=") for name in entry["files"])
    data = {key: (folder / file).read_text() for key, file in pairs}
    metadata = {"name": entry["name"], "namespace": entry["namespace"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _patched(document: Document, operations: list[Document]) -> Document:
    """A JSON patch (RFC 6902) that only adds to the ends of lists."""
    changed = copy.deepcopy(document)
    for operation in operations:
        *path, last = operation["path"].removeprefix("/").split("/")
        assert (operation["op"], last) == ("add", "-")
        at: Any = changed
        for key in path:
            at = at[int(key)] if isinstance(at, list) else at[key]
        at.append(operation["value"])
    return changed
