"""Writes the card for people: `advice.json` and `advice.txt` in the controller's folder."""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from autoscale.acts import Act, AskedOf
from autoscale.actuators.base import Actuator, Order
from autoscale.advice import Line, Record, Term, learnt, reserved, wanted
from autoscale.lease import Fence
from autoscale.policy import Plan, Pool
from autoscale.records import Decision, Scale, Supply

_log = logging.getLogger(__name__)


class Looked(NamedTuple):
    """A pool that people look after."""

    model: str
    pool: str
    per_replica: int
    ends: date | None
    """Of its term."""


class AdviceActuator(Actuator):
    """Remembers each model's demand by day."""

    name = "advice"

    def __init__(self, pools: tuple[Looked, ...], folder: Path) -> None:
        self._pools = pools
        self._folder = folder
        self._records: dict[str, Record] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._written: tuple[Line, ...] | None = None
        self._hour = -1

    def begin(self, asked: AskedOf) -> None:  # noqa: ARG002 - protocol
        """See `Actuator`."""
        path = self._folder / "demand.json"
        try:
            self._records = msgspec.json.decode(path.read_bytes(), type=dict[str, Record])
        except (OSError, msgspec.MsgspecError):
            self._records = {}

    async def apply(
        self,
        order: Order,
        fence: Fence,  # noqa: ARG002 - it writes a card, no number
        session: aiohttp.ClientSession,  # noqa: ARG002 - protocol
    ) -> tuple[Act, ...]:
        """See `Actuator`."""
        at_ms = order.samples.at_ms
        decisions = {d.model: d for d in order.decisions}
        for model, decision in decisions.items():
            if "rate" in decision.numbers:
                old = self._records.get(model, Record())
                self._records[model] = learnt(old, decision.numbers["rate"], at_ms)
        plans = {plan.model: plan for plan in order.policy.plans}
        lines, acts = [], []
        for looked in self._pools:
            plan = plans.get(looked.model)
            pool = next((p for p in plan.pools if p.name == looked.pool), None) if plan else None
            if plan is None or pool is None:
                continue
            supply = (order.samples.supply or {}).get(looked.model)
            line = self._line(looked, (plan, pool), decisions.get(looked.model), supply, at_ms)
            lines += [line] if line else []
            words = line.text if line else "nothing to do"
            acts.append(Act(self.name, looked.model, "would", words, pool=looked.pool))
        self._write(tuple(lines), at_ms)
        return tuple(acts)

    def _line(
        self, looked: Looked, of: tuple[Plan, Pool], decision: Decision | None,
        supply: Supply | None, at_ms: int,
    ) -> Line | None:  # fmt: skip
        plan, pool = of
        if pool.terms == "reserved":
            record = self._records.get(looked.model, Record())
            term = Term(looked.ends, looked.per_replica)
            return reserved(plan, pool, record, term, at_ms)
        key = looked.model, looked.pool
        if isinstance(decision, Scale):
            self._counts[key] = decision.pools.get(looked.pool, 0)
        if supply is None or key not in self._counts:
            return None
        is_alone = len(plan.pools) == 1
        ready = supply.ready if supply.pools is None else supply.pools.get(looked.pool, 0)
        if supply.pools is None and not is_alone:
            return None  # nobody can tell which pool's machines are there
        return wanted(looked.model, pool, self._counts[key], ready, looked.per_replica)

    def _write(self, lines: tuple[Line, ...], at_ms: int) -> None:
        """Keep the card when it changes, and the demand once an hour."""
        hour = at_ms // 3_600_000
        if lines == self._written and hour == self._hour:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = "".join(f"{line.text}\n" for line in lines) or "nothing to rent or return\n"
            (self._folder / "advice.txt").write_text(text, encoding="utf-8")
            (self._folder / "advice.json").write_bytes(msgspec.json.encode(lines))
            (self._folder / "demand.json").write_bytes(msgspec.json.encode(self._records))
        except OSError as error:
            _log.warning("advice_not_written", extra={"reason": str(error)})
            return
        self._written, self._hour = lines, hour
