"""What a scrape reads of the last tick: demand, supply and whether a rented GPU earns its price.

A replica pays while its busy share is above its price / what the API would take for the same work
(1/r, docs/autoscaler.md): `ballast_controller_breakeven_ratio` is that share for the dearest pool
in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge

from autoscale.policy import Plan
from autoscale.records import Decision


def figures(decision: Decision, plan: Plan) -> dict[str, float]:
    """The figures of one model that are known. Pure."""
    numbers = decision.numbers
    if not numbers:
        return {}
    ready = numbers["ready"]
    found = {"demand": numbers["rate"], "ready": ready}
    if "edge" in numbers:
        found["edge"] = numbers["edge"]
    if ready > 0.0:
        found["busy"] = min(1.0, numbers["served"] / ready)
    used = [pool for pool in plan.pools if _count(decision, pool.name)] or list(plan.pools)
    prices = [pool.hour_micro / 3600 / pool.capacity for pool in used if pool.capacity > 0.0]
    api = numbers["api_micro_per_s"]
    if prices and api > 0.0:
        found["breakeven"] = max(prices) / api
    return found


def _count(decision: Decision, pool: str) -> int:
    pools: Mapping[str, int] = getattr(decision, "pools", {})
    return pools.get(pool, 0)


class Gauges:
    """The series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def series(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["model"], registry=registry)

        self._series = {
            "demand": series("ballast_controller_demand_replicas", "Demand, in full replicas"),
            "ready": series("ballast_controller_ready_replicas", "Replicas that answer"),
            "busy": series(
                "ballast_controller_busy_ratio", "Served work / what the ready replicas could do"
            ),
            "breakeven": series(
                "ballast_controller_breakeven_ratio", "Replica's price / the API's for its work"
            ),
            "edge": series(
                "ballast_controller_edge_ratio", "Work of a replica at its edge / its figure"
            ),
        }

        self._lapses = Gauge("ballast_grant_lapse_days", "Until a grant lapses with something left",
                             ["grant"], registry=registry)  # fmt: skip

    def lapsing(self, days: Mapping[str, float]) -> None:
        """Grants that will lapse, by id."""
        self._lapses.clear()
        for grant, left in days.items():
            self._lapses.labels(grant).set(left)

    def show(self, decisions: Iterable[Decision], plans: Iterable[Plan]) -> None:
        """The figures of a tick. A figure that is no longer known is taken away."""
        by_model = {plan.model: plan for plan in plans}
        for decision in decisions:
            plan = by_model.get(decision.model)
            found = {} if plan is None else figures(decision, plan)
            for name, series in self._series.items():
                if name in found:
                    series.labels(decision.model).set(found[name])
                else:
                    series.remove(decision.model)
