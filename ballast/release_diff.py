"""What an upgrade of the chart's release would change, and what that does to who runs. Pure.

Two manifests as `helm get manifest` and `helm template` print them; no cluster is asked. Objects
are paired by kind and name; a settings file inside a ConfigMap is compared key by key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from ballast.doctor import Finding, Level
from ballast.messages import Said

SHOWN_MAX = 12
VALUE_CHARS_MAX = 60
_MISSING = object()
_QUIET = ("metadata.labels.helm.sh/chart", "metadata.labels.app.kubernetes.io/version")
"""Differ at each version and restart nothing by themselves."""
_STORED = ("PersistentVolumeClaim",)


class NotAManifestError(Exception):
    """A file that holds no objects of Kubernetes; names what is there instead."""


class Changed(NamedTuple):
    """One object's difference."""

    kind: str
    name: str
    what: str
    """`added`, `removed` or `changed`."""
    paths: tuple[str, ...] = ()
    """`path: old -> new`."""
    before: Mapping[str, Any] = {}
    after: Mapping[str, Any] = {}


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name. Raises NotAManifestError."""
    found = {}
    try:
        documents = [one for one in yaml.safe_load_all(text) if one]
    except yaml.YAMLError as error:
        raise NotAManifestError(
            Said("cluster.no_yaml", splitlines=str(error).splitlines()[0])
        ) from None
    for one in documents:
        if not isinstance(one, dict) or "kind" not in one or "metadata" not in one:
            keys = (
                ", ".join(map(str, list(one)[:5])) if isinstance(one, dict) else type(one).__name__
            )
            raise NotAManifestError(Said("cluster.no_objects", keys=keys))
        found[(str(one["kind"]), str(one["metadata"]["name"]))] = one
    return found


def changes(old: str, new: str) -> list[Changed]:
    """Every object that differs, by kind and name. Raises NotAManifestError."""
    before, after = objects(old), objects(new)
    found = []
    for key in sorted(before.keys() | after.keys()):
        was, will = before.get(key), after.get(key)
        if was is None:
            found.append(Changed(*key, "added", after=will or {}))
        elif will is None:
            found.append(Changed(*key, "removed", before=was))
        else:
            paths = tuple(_paths(_opened(was), _opened(will)))
            if any(not path.startswith(_QUIET) for path in paths):
                found.append(Changed(*key, "changed", paths, was, will))
    return found


def consequences(found: list[Changed]) -> Iterator[Finding]:
    """What it does, the worst first: lost data, gaps, restarts, the rest."""
    for one in found:
        if one.kind in _STORED and one.what == "removed":
            text = Said("cluster.taken_away", kind=one.kind, name=one.name)
            yield Finding("data", Level.STOP, text, Said("cluster.keep_it"))
    restarts = [one for one in found if _restarts(one)]
    for one in restarts:
        yield _restart(one)
    for one in found:
        if one.kind == "RayCluster" and one.what != "added":
            yield _engines(one)
    quiet = [f"{o.kind} {o.name}" for o in found if o not in restarts and o.kind != "RayCluster"]
    if quiet:
        yield Finding("at once", Level.OK, Said("cluster.at_once", quiet=_some(quiet)))
    if not found:
        yield Finding("upgrade", Level.OK, Said("cluster.same"))


def lines(found: list[Changed]) -> Iterator[str]:
    """The difference for people to read."""
    for one in found:
        yield f"{one.what:<8} {one.kind} {one.name}"
        shown = [path for path in one.paths if "checksum/" not in path]
        yield from (f"           {path}" for path in shown[:SHOWN_MAX])
        if len(shown) > SHOWN_MAX:
            yield f"           and {len(shown) - SHOWN_MAX} more"


def _restarts(one: Changed) -> bool:
    if one.kind != "Deployment" or one.what != "changed":
        return False
    before, after = one.before["spec"], one.after["spec"]
    return bool(before.get("template") != after.get("template"))


def _restart(one: Changed) -> Finding:
    spec = one.after["spec"]
    grace_s = spec["template"]["spec"].get("terminationGracePeriodSeconds", 30)
    pods = spec.get("replicas")
    why = [path.partition(":")[0] for path in one.paths if path.startswith("spec.template")]
    cause = Said("cluster.its_settings") if all("checksum/" in path for path in why) else _some(why)
    if spec.get("strategy", {}).get("type") == "Recreate":
        text = Said("cluster.gap", name=one.name, grace_s=grace_s, cause=cause)
        remedy = Said("cluster.without_gap")
        return Finding("gap", Level.WARN, text, remedy)
    many = Said("cluster.pods", pods=pods) if pods else Said("cluster.each_pod")
    most = Said("cluster.at_most", pods=pods * grace_s) if pods else ""
    text = Said(
        "cluster.one_by_one", name=one.name, many=many, grace_s=grace_s, most=most, cause=cause
    )
    return Finding("restart", Level.WARN, text)


def _engines(one: Changed) -> Finding:
    if one.what == "removed":
        text = Said("cluster.leaves", name=one.name)
        return Finding("engines", Level.WARN, text, Said("cluster.delete"))
    paths = [path for path in one.paths if ".replicas:" not in path]
    text = Said(
        "cluster.no_stop",
        name=one.name,
        value=_some([p.partition(":")[0] for p in paths]) or Said("cluster.other_counts"),
    )
    remedy = Said("cluster.move_calls")
    return Finding("engines", Level.WARN, text, remedy)


def _opened(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object, with files of a ConfigMap that are YAML or JSON as trees."""
    if one["kind"] != "ConfigMap":
        return one
    data = {}
    for name, text in (one.get("data") or {}).items():
        try:
            data[name] = yaml.safe_load(text) if name.endswith((".yaml", ".json")) else text
        except yaml.YAMLError:
            data[name] = text
    return {**one, "data": data}


def _paths(old: Any, new: Any, at: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}, key=str):
            where = f"{at}.{key}" if at else str(key)
            yield from _paths(old.get(key, _MISSING), new.get(key, _MISSING), where)
    elif isinstance(old, list) and isinstance(new, list):
        was, will = _named(old), _named(new)
        for key in [*was, *(k for k in will if k not in was)]:
            yield from _paths(was.get(key, _MISSING), will.get(key, _MISSING), f"{at}[{key}]")
    elif old != new:
        yield f"{at}: {_word(old)} -> {_word(new)}"


def _named(rows: list[Any]) -> dict[str, Any]:
    """By name where each has one, else by number."""
    keys = [row.get("name", row.get("id")) if isinstance(row, dict) else None for row in rows]
    if None in keys or len(set(map(str, keys))) < len(keys):
        keys = list(range(len(rows)))
    return {str(key): row for key, row in zip(keys, rows, strict=True)}


def _word(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    text = " ".join(str(value).split())
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."


def _some(words: list[str]) -> str:
    more = f" and {len(words) - 4} more" if len(words) > 4 else ""
    return ", ".join(words[:4]) + more
