"""Where weights may come from, and which of a source's files are wanted. Pure.

    embedded                      the demo model, from an installed package
    /models/x  ./x  ~/x           a folder that is there
    pvc:/mnt/models/x             a folder on a volume that may be mounted, or filled, late
    owner/name  hf:owner/name     Hugging Face (a bare id: the hub the settings name)
    modelscope:owner/name         ModelScope
    s3://bucket/prefix            an S3-compatible object store

A hub id may end in `@revision`; without one the first fetch pins what it finds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal, NamedTuple, TypeAlias

from models.worded import Worded
from serving.engine.weights.errors import IncompleteError, SourceError, UnsafeError

Hub: TypeAlias = Literal["huggingface", "modelscope"]
Kind: TypeAlias = Literal["model", "adapter"]
EMBEDDED = "embedded"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
REVISION = re.compile(r"[\w./-]{1,128}")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PATH_CHARS_MAX = 512
FILES_MAX = 10_000

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
SUMS = "SHA256SUMS"
"""What `sha256sum * > SHA256SUMS` writes: the hashes of a folder or prefix, if it lies there."""
PLAIN = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken"})
"""Formats that hold data only; `.model` is a tokenizer's protobuf."""
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"})
"""Formats whose loading may run code, or that vLLM does not load."""
ASIDE = frozenset({"onnx", "openvino", "original", "coreml", "figures", "assets", "examples"})
"""Folders that hold the same model in other forms, or pictures."""
_MODULE = re.compile(r"\d+_\w+")
"""`1_Pooling`: a module of a sentence embedder, with its own config and sometimes weights."""


class Embedded(NamedTuple):
    """The demo model."""


class Folder(NamedTuple):
    """A local folder."""

    path: str
    is_volume: bool = False
    """It may come late, and is read over a network."""


class Repository(NamedTuple):
    """A model repository on a hub."""

    hub: Hub
    id: str
    revision: str = ""
    """Branch, tag or commit; empty = not named."""


class Bucket(NamedTuple):
    """A prefix in an object store."""

    name: str
    prefix: str
    """Ends in `/`, or is empty."""


CALLED = {
    "model": Worded("weights.kind_model", "model"),
    "adapter": Worded("weights.kind_adapter", "adapter"),
}
Source: TypeAlias = Embedded | Folder | Repository | Bucket


def parse(text: str, default_hub: Hub = "huggingface") -> Source:
    """Read a source. Raises SourceError saying what may be written."""
    if text == EMBEDDED:
        return Embedded()
    scheme, colon, rest = text.partition(":")
    if text.startswith(("/", ".", "~")):
        return Folder(text)
    if not colon:
        return _repository(text, text, default_hub)
    if scheme == "pvc":
        if not rest.startswith("/"):
            template = "{text}: a volume is written pvc:/absolute/path"
            raise SourceError(Worded("weights.volume", template, text=repr(text)))
        return Folder("/" + rest.lstrip("/"), is_volume=True)
    if scheme == "s3":
        return _bucket(text, rest)
    if scheme in ("hf", "huggingface"):
        return _repository(text, rest, "huggingface")
    if scheme in ("ms", "modelscope"):
        return _repository(text, rest, "modelscope")
    raise _unreadable(text)


def _repository(text: str, rest: str, hub: Hub) -> Repository:
    repo, at, revision = rest.partition("@")
    if not HUB_ID.fullmatch(repo) or (at and not REVISION.fullmatch(revision)):
        raise _unreadable(text)
    if ".." in repo or ".." in revision:
        raise _unreadable(text)
    return Repository(hub, repo, revision)


def _bucket(text: str, rest: str) -> Bucket:
    name, _, prefix = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or not BUCKET.fullmatch(name):
        template = "{text}: an object store is written s3://bucket/prefix"
        raise SourceError(Worded("weights.bucket", template, text=repr(text)))
    prefix = prefix.strip("/")
    return Bucket(name, f"{prefix}/" if prefix else "")


def _unreadable(text: str) -> SourceError:
    template = (
        "{text} is neither a folder nor a hub id like owner/name[@revision]; others are "
        "written hf:, modelscope:, s3://bucket/prefix, pvc:/path or embedded"
    )
    return SourceError(Worded("weights.source", template, text=repr(text)))


def canonical(source: Source) -> str:
    """One spelling for a source; mirrors and endpoints are no part of what it is."""
    match source:
        case Embedded():
            return EMBEDDED
        case Folder(path, is_volume):
            return f"pvc:{path}" if is_volume else path
        case Repository(hub, repo, revision):
            return f"{hub}:{repo}" + (f"@{revision}" if revision else "")
        case Bucket(name, prefix):
            return f"s3://{name}/{prefix}".rstrip("/")


def slug(source: Source) -> str:
    """Name of the source in the cache: readable, safe as a file name, different for each."""
    text = canonical(source)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return f"{words[:60].strip('-')}-{digest}".lstrip("-")


def checked_path(path: str) -> str:
    """A file's path inside its source. Raises UnsafeError for one that could leave the folder."""
    parts = path.split("/")
    is_plain = path.isprintable() and "\\" not in path and len(path) <= PATH_CHARS_MAX
    if not is_plain or any(part in ("", ".", "..") for part in parts):
        raise UnsafeError(f"the source lists a file named {path[:80]!r}, which may not be written")
    return path


def is_wanted(path: str, kind: Kind, *, with_code: bool = False) -> bool:
    """Whether a file of a source is fetched and checked. `with_code`: also Python files."""
    if kind == "adapter":
        return path in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
    pure = PurePosixPath(path)
    if pure.suffix == ".py":
        return with_code
    if pure.suffix not in PLAIN or pure.name.startswith("."):
        return False
    folders = pure.parts[:-1]
    if not folders:
        return True
    if folders[0] in ASIDE:
        return False
    # vLLM reads weights of the top level, and of an embedder's modules.
    return pure.suffix != ".safetensors" or _MODULE.fullmatch(folders[0]) is not None


def check_listing(paths: Iterable[str], kind: Kind, where: str) -> None:
    """Raises UnsafeError or IncompleteError unless there is something safe to load."""
    found = set(paths)
    if len(found) > FILES_MAX:
        template, count = "{where} lists {count} files; more than {most} is no model", len(found)
        raise UnsafeError(
            Worded("weights.many", template, where=where, count=count, most=FILES_MAX)
        )
    needed = (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if kind == "adapter" else ("config.json",)
    pickles = sorted(p for p in found if PurePosixPath(p).suffix in PICKLES)
    has_weights = any(
        p.endswith(".safetensors") and is_wanted(p, kind) and "/" not in p for p in found
    )
    if not has_weights and pickles:
        template = (
            "{where} holds its weights only as {file}: such files run code when loaded and "
            "are refused; convert them to safetensors, or name a repository that has them"
        )
        raise UnsafeError(Worded("weights.pickles", template, where=where, file=pickles[0]))
    missing = sorted(set(needed) - found) or ([] if has_weights else ["*.safetensors"])
    if missing:
        template, called = "{where} has no {file}: is it a {kind}, and whole?", CALLED[kind]
        raise IncompleteError(
            Worded("weights.lacks", template, where=where, file=missing[0], kind=called)
        )
