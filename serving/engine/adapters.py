"""The LoRA adapters of one replica: fetched, checked against its base, loaded and unloaded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from serving.engine.adapter_spec import ADAPTERS_MAX, Adapter, LoraLimits, bases_of, unfit
from serving.engine.prepare import NotPreparedError, OnEvent, prepare
from serving.engine.spec import EngineSpec
from serving.engine.weights.resolve import Order
from serving.engine.weights.sources import ADAPTER_CONFIG, ADAPTER_WEIGHTS

CONFIG_BYTES_MAX = 1 << 20


class AdapterError(Exception):
    """An adapter cannot be loaded or unloaded; `status` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


class Loader(Protocol):
    """What is asked of the engine."""

    async def load_adapter(self, name: str, folder: str) -> str: ...

    async def unload_adapter(self, name: str) -> str: ...

    def adapters(self) -> dict[str, str]: ...


class Loaded(NamedTuple):
    """One adapter, for whoever asks what there is."""

    name: str
    source: str
    folder: str


class Adapters:
    """Owns what is loaded; one change at a time."""

    def __init__(self, spec: EngineSpec, engine: Loader, on_event: OnEvent) -> None:
        self._spec = spec
        self._engine = engine
        self._on_event = on_event
        self._limits = spec.lora or LoraLimits()
        self._bases = bases_of(spec.model_name, spec.source, spec.model_path)
        self._sources: dict[str, str] = {}
        self._turn = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """Model names beside the base."""
        return sorted(self._engine.adapters())

    def listing(self) -> list[Loaded]:
        """What is loaded now."""
        found = self._engine.adapters()
        return [Loaded(name, self._sources.get(name, ""), found[name]) for name in sorted(found)]

    async def load(self, adapter: Adapter) -> Loaded:
        """Fetch, check and load. Loading what is loaded already from the same source changes
        nothing. Raises AdapterError."""
        if not self._spec.takes_adapters:
            raise AdapterError("this engine was started without room for adapters: set `lora`")
        async with self._turn:
            found = self._engine.adapters()
            if adapter.name in found:
                if self._sources.get(adapter.name) == adapter.source:
                    return Loaded(adapter.name, adapter.source, found[adapter.name])
                raise AdapterError(f"{adapter.name!r} is loaded from another source", 409)
            if adapter.name == self._spec.model_name:
                raise AdapterError(f"{adapter.name!r} is the name of the base model", 409)
            if len(found) >= ADAPTERS_MAX:
                raise AdapterError(f"{len(found)} adapters are loaded; unload one first", 409)
            folder = await self._fetch(adapter)
            if reason := unfit(_config(Path(folder)), adapter, self._bases, self._limits):
                raise AdapterError(f"adapter {adapter.name!r}: {reason}")
            if reason := await self._engine.load_adapter(adapter.name, folder):
                raise AdapterError(f"adapter {adapter.name!r}: vLLM: {reason}")
            self._sources[adapter.name] = adapter.source
            return Loaded(adapter.name, adapter.source, folder)

    async def unload(self, name: str) -> None:
        """Calls under way keep their adapter to their end. Raises AdapterError."""
        async with self._turn:
            if name not in self._engine.adapters():
                raise AdapterError(f"no adapter {name!r} is loaded", 404)
            if reason := await self._engine.unload_adapter(name):
                raise AdapterError(f"adapter {name!r}: vLLM: {reason}", 500)
            self._sources.pop(name, None)

    async def _fetch(self, adapter: Adapter) -> str:
        sums = ((ADAPTER_WEIGHTS, adapter.sha256),) if adapter.sha256 else ()
        cache = Path(self._spec.cache_dir)
        order = Order(adapter.source, cache, kind="adapter", sums=sums)
        try:
            return (await prepare(order, self._spec, self._on_event)).path
        except NotPreparedError as error:
            raise AdapterError(f"adapter {adapter.name!r}: {error}") from None


def _config(folder: Path) -> dict[str, Any]:
    data = (folder / ADAPTER_CONFIG).read_bytes()[:CONFIG_BYTES_MAX]
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise AdapterError(f"{folder / ADAPTER_CONFIG}: {error}") from None
