"""What the admin API needs for rollouts: who may start what, and what a gap would be like, by the
ledger and the gateway's own routing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import closing
from typing import Any, NamedTuple, TypeVar

import msgspec

from serving.errors import CallerError, OwnError
from serving.finance.store import open_to_read
from serving.ledger.base import LedgerUnavailable
from serving.placement.values import Route
from serving.records import (
    Call,
    Caller,
    FleetView,
    Pending,
    Placement,
    Refuse,
    Surface,
)
from serving.rollout import counts, refusals
from serving.rollout.counts import Load
from serving.rollout.gap import Gap, gap
from serving.routing import place
from serving.settings import KeySettings, Model, Settings

T = TypeVar("T")
WINDOW_S = 86_400.0
"""The load of the last day stands for the gap's."""
AGAIN_S = 5.0
TURN = 50
"""Loads that are placed before others get their turn: about a millisecond; there may be 10,000."""


class RolloutDesk(NamedTuple):
    """One gateway's."""

    settings: Settings
    routes: Mapping[str, Route]
    """As the settings give them."""
    view: Callable[[], FleetView]
    holder: Callable[[str], Caller | None]
    clock: Callable[[], float]
    utc_ms: Callable[[], int]

    def meant(self, name: str) -> str:
        """The model that the settings give a name. Raises CallerError."""
        route = self.routes.get(name)
        adapters = {a.name for m in self.settings.models for a in m.adapters}
        if route is None or name in adapters:
            raise CallerError("invalid_value", refusals.no_name(name[:200]), param="name")
        return route.model

    def model(self, name: str) -> Model:
        """A model of the settings. Raises CallerError."""
        for one in self.settings.models:
            if one.name == name:
                return one
        message = refusals.no_model(name[:200], [m.name for m in self.settings.models])
        raise CallerError("invalid_value", message, param="new")

    def check(self, name: str, old: str, new: str) -> None:
        """Whether a name may go from one to the other. Raises CallerError."""
        self.meant(name)
        before, after = self.model(old), self.model(new)
        lacking = sorted(set(before.surfaces) - set(after.surfaces))
        if lacking:
            message = refusals.serves_less(old, new, lacking)
            raise CallerError("invalid_value", message, param="new")
        if not {"chat", "completions"} & set(before.surfaces):
            raise CallerError("invalid_value", refusals.vectors(old), param="name")

    def has_engines(self, name: str) -> bool:
        """Whether engines of ours serve it, or are to."""
        placed = {replica.model for replica in self.settings.fleet.static}
        return name in placed or self.model(name).engine is not None or bool(
            self.view().replicas.get(name)
        )  # fmt: skip

    async def gap(self, old: str, new: str, gap_s: float | None) -> Gap:
        """The gap of a change in place. Raises OwnError while the ledger is away."""
        length_s = self.model(new).time_to_ready_s if gap_s is None else gap_s
        since_ms = self.utc_ms() - round(WINDOW_S * 1e3)

        def ask() -> list[tuple[Any, ...]]:
            with closing(open_to_read(self.settings)) as database:
                return database.rows(counts.LOADS, {"since": since_ms, "model": old})

        try:
            rows = await asyncio.to_thread(ask)
        except LedgerUnavailable as error:
            raise OwnError("ledger_away", error.message) from error
        now_s = self.clock()
        view = without_engines(self.view(), new, now_s + length_s)
        loads = counts.loads(rows)
        placed = await in_turns(loads, lambda load: self._placed(load, new, view))
        return gap(loads, placed.__getitem__, length_s, WINDOW_S)

    def _placed(self, load: Load, new: str, view: FleetView) -> Placement:
        try:
            caller = self.holder(load.key_id)
        except CallerError as error:
            return Refuse(error.code, "key", error.message, None)
        if caller is None:
            return Refuse("invalid_api_key", "key", refusals.KEY_UNKNOWN, None)
        now_s = self.clock()
        first = self.settings.gateway.classes[load.latency_class]
        each = max(1, load.calls)
        model = self.model(new)
        surface = Surface.CHAT if "chat" in model.surfaces else Surface(model.surfaces[0])
        call = Call(
            request_id="0" * 32, surface=surface, tenant=load.tenant, model=new, alias=new,
            fields={}, received_s=now_s, received_ms=self.utc_ms(),
            first_token_by_s=now_s + min(first.first_token_s, first.complete_s),
            complete_by_s=now_s + first.complete_s, latency_class=load.latency_class, prompt=b"",
            size=0, prompt_tokens=max(1, load.prompt_tokens // each),
            max_tokens=max(1, load.completion_tokens // each), stream=True, wants_usage=False,
            affinity=0,
        )  # fmt: skip
        return place(call, caller, view, now_s)


async def one_of_few(places: asyncio.Semaphore, work: Coroutine[Any, Any, T]) -> T:
    """The work's answer, if a place is free now. Raises CallerError: nobody waits for one."""
    if places.locked():
        work.close()
        raise CallerError("rate_limit_exceeded", refusals.BUSY, retry_after_s=AGAIN_S)
    async with places:
        return await work


async def in_turns(
    loads: Iterable[Load], place: Callable[[Load], Placement]
) -> dict[Load, Placement]:
    """Where each load would go, `TURN` of them at a time."""
    placed = {}
    for number, load in enumerate(loads, start=1):
        placed[load] = place(load)
        if number % TURN == 0:
            await asyncio.sleep(0)
    return placed


def without_engines(view: FleetView, model: str, expected_s: float) -> FleetView:
    """The view while a model's engine loads. Pure."""
    replicas = {name: rows for name, rows in view.replicas.items() if name != model}
    pending = {**view.pending, model: Pending(model, expected_s)}
    return msgspec.structs.replace(view, replicas=replicas, pending=pending)


def staying(keys: Iterable[KeySettings], old: str, new: str) -> list[str]:
    """Keys that may call the old model and not the new: their calls stay. Pure."""
    return sorted(
        k.id for k in keys if k.models is not None and old in k.models and new not in k.models
    )
