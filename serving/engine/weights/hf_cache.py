"""Models that Hugging Face's own tools have brought to this machine already.

Read only, by the layout that huggingface_hub documents: `models--OWNER--NAME/refs/REVISION` names a
commit, `snapshots/COMMIT` holds its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from serving.engine.weights.completeness import fault_of
from serving.engine.weights.sources import Kind, Repository


def snapshot(source: Repository, kind: Kind, environ: Mapping[str, str]) -> Path | None:
    """The folder of the revision, if it is there and whole."""
    folder = _root(environ) / f"models--{source.id.replace('/', '--')}"
    revision = source.revision or "main"
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        commit = revision
    found = folder / "snapshots" / commit
    if "/" in commit or not found.is_dir() or fault_of(found, kind):
        return None
    return found


def _root(environ: Mapping[str, str]) -> Path:
    if cache := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    home = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "/nonexistent"), ".cache"))
    return Path(home).expanduser() / "huggingface" / "hub"
