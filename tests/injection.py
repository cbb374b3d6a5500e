"""Makes one function of a package raise for everything about bad objects: which those are, the test says."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest

DUNDERS = ("__init__", "__post_init__", "__call__")
"""Special methods that are places too."""


def modules(package: ModuleType) -> list[ModuleType]:
    """All modules of a package that are pure."""
    walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(module.name) for module in walked if ".io" not in module.name]


def places(package: ModuleType, parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The functions and methods of parts of a package, private ones included, as module and dotted name."""
    for module in modules(package):
        if not module.__name__.removeprefix(f"{package.__name__}.").startswith(tuple(parts)):
            continue
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") != module.__name__:
                continue
            if inspect.isfunction(value):
                yield module.__name__, name
            elif inspect.isclass(value):
                yield from ((module.__name__, f"{name}.{method}") for method in _methods(value))


def _methods(owner: type[Any]) -> Iterator[str]:
    for name, value in vars(owner).items():
        if inspect.isfunction(value) and (name in DUNDERS or not name.startswith("__")):
            yield name


def inject(
    monkeypatch: pytest.MonkeyPatch, package: ModuleType, place: tuple[str, str], about_bad: Callable[[object], bool]
) -> list[str]:
    """Have a function or method raise for everything about bad objects, wherever it has been imported; the calls that
    did."""
    module, dotted = place
    owner: Any = importlib.import_module(module)
    *path, name = dotted.split(".")
    for part in path:
        owner = getattr(owner, part)
    real, raised = vars(owner)[name], list[str]()

    def failing(*args: Any, **kwargs: Any) -> Any:
        if any(about_bad(value) for value in (*args, *kwargs.values())):
            raised.append(name)
            raise ZeroDivisionError("injected")
        return real(*args, **kwargs)

    if path:
        monkeypatch.setattr(owner, name, failing)
        return raised
    for user in modules(package):
        for known, value in list(vars(user).items()):
            if value is real:
                monkeypatch.setattr(user, known, failing)
            elif isinstance(value, dict) and real in value.values():
                for key in [key for key, item in value.items() if item is real]:
                    monkeypatch.setitem(value, key, failing)
    return raised
