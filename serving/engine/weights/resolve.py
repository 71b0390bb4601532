"""From a source to a folder that an engine may load: the composition of this package."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from serving.engine.loading import Load, load_of
from serving.engine.weights import credentials, folder, pins
from serving.engine.weights.demo import Dtype, ensure_embedded, is_converted
from serving.engine.weights.errors import SourceError
from serving.engine.weights.hf_cache import snapshot
from serving.engine.weights.huggingface import HuggingFace
from serving.engine.weights.modelscope import ModelScope
from serving.engine.weights.remote import Remote
from serving.engine.weights.requester import Requester
from serving.engine.weights.s3 import object_store
from serving.engine.weights.settings import WeightsSettings, completed
from serving.engine.weights.sources import (
    EMBEDDED,
    Bucket,
    Embedded,
    Folder,
    Kind,
    Repository,
    Source,
    canonical,
    parse,
    slug,
)
from serving.engine.weights.store import Cached, Store, Wanted
from serving.engine.weights.transfer import Means, OnBytes, Sleep

THREADS = 4


class Order(NamedTuple):
    """What is wanted."""

    source: str
    cache: Path
    kind: Kind = "model"
    load: Load = "auto"
    dtype: Dtype = "bfloat16"
    """Of the embedded model's checkpoint."""
    with_code: bool = False
    """Fetch Python files too, because somebody has said why this repository's may run."""
    manifest: str = ""
    """A file of `sha256sum`'s form that the files must match."""
    sums: tuple[tuple[str, str], ...] = ()
    """Paths and hashes, beside the manifest."""


class Outside(NamedTuple):
    """The world around: environment, time, and who wants to know of progress."""

    environ: Mapping[str, str]
    sleep: Sleep = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    utc: Callable[[], datetime] = lambda: datetime.now(UTC)
    on_bytes: OnBytes = lambda _: None


class Resolved(NamedTuple):
    """Weights that are ready for an engine."""

    path: str
    """For vLLM's `--model`: a folder, or the object store's URL where it streams from there."""
    load: Load
    """Never `auto`."""
    is_cold: bool = False
    """Something was fetched or converted."""
    bytes_fetched: int = 0


async def resolve(order: Order, settings: WeightsSettings, outside: Outside) -> Resolved:
    """Make the weights ready. Raises WeightsError."""
    settings = completed(settings, outside.environ)
    source = source_of(order, settings, outside.environ)
    load = load_of(order.load, source)
    if isinstance(source, Embedded):
        if order.kind == "adapter":
            raise SourceError("the embedded model is no adapter")
        is_cold = not is_converted(order.cache, order.dtype)
        path = await asyncio.to_thread(ensure_embedded, order.cache, order.dtype)
        return Resolved(str(path), load, is_cold)
    if isinstance(source, Bucket) and load == "runai_streamer":
        if order.manifest or order.sums:
            raise SourceError(
                f"{canonical(source)}: hashes were given, and what is streamed into the GPU is held"
                " against none: say `load: safetensors`, or leave `manifest` and `sums` out"
            )
        return Resolved(canonical(source), load)
    sums = _manifest(order.manifest) | dict(order.sums)
    name = name_of(order, source)
    revision = source.revision if isinstance(source, Repository) else ""
    wanted = Wanted(canonical(source), revision, order.kind, order.with_code, sums)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="weights-disk") as threads:
        async with Requester(settings.connect_s, settings.idle_s) as requester:
            means = Means(
                requester, threads, outside.sleep, settings.attempts_max, outside.on_bytes
            )
            if isinstance(source, Folder):
                where = _absolute(source)
                if source.is_volume:
                    await folder.wait_for(
                        where, order.kind, settings.wait_s, outside.clock, outside.sleep
                    )
                if load != "dummy":
                    await folder.check(where, name, order.cache, wanted, (settings, means))
                return Resolved(str(where), load)
            remote = remote_of(source, settings, outside)
            cached: Cached = await Store(order.cache, name, settings, means).ensure(remote, wanted)
    return Resolved(str(cached.folder), load, cached.is_cold, cached.bytes_fetched)


def _absolute(source: Folder) -> Path:
    return Path(source.path).expanduser().absolute()


def source_of(order: Order, settings: WeightsSettings, environ: Mapping[str, str]) -> Source:
    """What an order's source means here: a folder that is there is one, however it is written, and
    so is a repository that Hugging Face's own tools have brought."""
    if order.source != EMBEDDED and Path(order.source).expanduser().is_dir():
        return Folder(str(Path(order.source).expanduser().absolute()))
    source = parse(order.source, settings.hub or "huggingface")
    if order.load == "dummy" and not isinstance(source, Folder | Embedded):
        raise SourceError("load: dummy needs a folder with a config.json")
    if isinstance(source, Repository) and source.hub == "huggingface":
        is_ours = (order.cache / f"{name_of(order, source)}.pin.json").exists()
        found = None if is_ours else snapshot(source, order.kind, environ)
        return source if found is None else Folder(str(found))
    return source


def name_of(order: Order, source: Source) -> str:
    """The source's name in the cache; with code it is another set of files."""
    return slug(source) + ("-code" if order.with_code else "")


def remote_of(source: Repository | Bucket, settings: WeightsSettings, outside: Outside) -> Remote:
    if isinstance(source, Bucket):
        keys = credentials.keys(settings.s3_credentials_file, outside.environ)
        return object_store(source, settings, keys, outside.utc)
    if source.hub == "modelscope":
        token = credentials.token(
            settings.modelscope_token_file, "MODELSCOPE_API_TOKEN", outside.environ
        )
        return ModelScope(_base(settings.modelscope_url), source.id, token)
    token = credentials.token(settings.huggingface_token_file, "HF_TOKEN", outside.environ)
    return HuggingFace(_base(settings.huggingface_url), source.id, token)


def _base(url: str | None) -> str:
    assert url is not None, "completed settings have every address"
    return url.rstrip("/")


def _manifest(file: str) -> dict[str, str]:
    if not file:
        return {}
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"manifest {file}: {error}") from None
    return pins.parse_sums(text, file)
