"""Whether weights can be had, asked before anything is started: fetches nothing."""

from __future__ import annotations

from pathlib import Path

from models.worded import Worded
from serving.engine.weights.completeness import check_whole, wanted_files
from serving.engine.weights.demo import find_embedded_gguf
from serving.engine.weights.errors import IncompleteError, OfflineError
from serving.engine.weights.pins import read_pin
from serving.engine.weights.requester import Requester
from serving.engine.weights.resolve import Order, Outside, name_of, remote_of, source_of
from serving.engine.weights.settings import WeightsSettings, completed
from serving.engine.weights.sources import (
    Embedded,
    Folder,
    Repository,
    check_listing,
    is_wanted,
)


async def look(order: Order, settings: WeightsSettings, outside: Outside) -> str:
    """Where the weights are, in words. Raises WeightsError when they cannot be had as things are.

    One listing is asked for, once; a volume that is not there yet is no error.
    """
    settings = completed(settings, outside.environ)
    source = source_of(order, settings, outside.environ)
    if isinstance(source, Embedded):
        return f"embedded: {find_embedded_gguf().name}"
    if isinstance(source, Folder):
        return _folder(source, order)
    name = name_of(order, source)
    if _is_cached(order.cache, name):
        return f"{order.source}, in {order.cache / name}"
    if settings.is_offline:
        raise OfflineError(
            f"{order.source} is not whole in {order.cache}, and offline mode (HF_HUB_OFFLINE or "
            "weights.is_offline) forbids fetching it"
        )
    remote = remote_of(source, settings, outside)
    revision = source.revision if isinstance(source, Repository) else ""
    async with Requester(settings.connect_s, settings.idle_s) as requester:
        listing = await remote.list(requester, revision)
    check_listing((f.path for f in listing.files), order.kind, remote.name)
    wanted = [f for f in listing.files if is_wanted(f.path, order.kind)]
    gib = sum(f.size or 0 for f in wanted) / 2**30
    return f"{remote.name}: {len(wanted)} files, {gib:.2f} GiB to fetch"


def _folder(source: Folder, order: Order) -> str:
    folder = Path(source.path).expanduser().absolute()
    if source.is_volume and not folder.is_dir():
        return f"{folder}, not mounted yet: it will be waited for"
    if order.load == "dummy":
        if not (folder / "config.json").is_file():
            raise IncompleteError(
                Worded("weights.no_config", "{folder} has no config.json", folder=folder)
            )
    else:
        check_whole(folder, wanted_files(folder, order.kind), order.kind)
    return str(folder)


def _is_cached(cache: Path, name: str) -> bool:
    return read_pin(cache / f"{name}.pin.json") is not None and (cache / name).is_dir()
