"""What the gateway counts, under names with units, for Prometheus.

Counting on the request path is a dictionary look-up and an addition; prometheus_client only renders
at scrape (its own counters take a lock each, which together cost more than routing a request).
Labels come from closed sets: our model names, outcomes, tiers, reasons, providers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

FIRST_TOKEN_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0)
TOKEN_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
WHOLE_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
RATIOS = (0.25, 0.5, 0.7, 0.85, 0.95, 1.05, 1.15, 1.3, 1.5, 2.0, 3.0, 5.0, 10.0)
SERIES_MAX = 2000
"""Per metric; further label values fold into `other`."""
Labels = tuple[str, ...]


class Counter:
    """A monotone sum by labels."""

    def __init__(self, name: str, text: str, labels: Labels) -> None:
        self.name, self.text, self.labels = name, text, labels
        self.values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Add to one series."""
        values = self.values
        known = values.get(labels)
        if known is not None:
            values[labels] = known + amount
        elif len(values) < SERIES_MAX:
            values[labels] = amount
        else:
            other = ("other",) * len(self.labels)
            values[other] = values.get(other, 0) + amount

    def family(self) -> Metric:
        """For the scrape."""
        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


class Histogram:
    """Observations by labels."""

    def __init__(self, name: str, text: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self.name, self.text, self.labels, self.bounds = name, text, labels, bounds
        self.values: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Count one observation."""
        found = self.values.get(labels)
        if found is None:
            if len(self.values) >= SERIES_MAX:
                labels = ("other",) * len(self.labels)
            found = self.values.setdefault(labels, ([0] * (len(self.bounds) + 1), [0.0]))
        found[0][bisect_left(self.bounds, value)] += 1
        found[1][0] += value

    def family(self) -> Metric:
        """For the scrape."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for labels, (counts, total) in self.values.items():
            running, buckets = 0, []
            for bound, count in zip((*map(str, self.bounds), "+Inf"), counts, strict=True):
                running += count
                buckets.append((bound, running))
            family.add_metric(labels, buckets, total[0])
        return family


Gauges = Callable[[], Iterable[tuple[str, str, Labels, dict[Labels, float]]]]


class Metrics:
    """All of the gateway's series. `gauges` are read at scrape."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges
        model, tier = ("model",), ("model", "tier")
        self.requests = Counter(
            "ballast_requests", "Requests by how they ended",
            ("model", "surface", "class", "outcome"),
        )  # fmt: skip
        self.slo = Counter(
            "ballast_slo_requests", "Requests by how their deadline was kept",
            ("model", "class", "result"),
        )  # fmt: skip
        self.unparsed = Counter(
            "ballast_unparsed_requests", "Refused before a caller or a call was known", ("code",)
        )
        self.attempts = Counter("ballast_attempts", "Tries on a target", (*tier, "outcome"))
        self.overflow = Counter(
            "ballast_overflow", "Calls that a third party had last, by reason", ("model", "reason")
        )
        self.refused = Counter("ballast_refused", "Calls refused", ("model", "code"))
        self.findings = Counter(
            "ballast_guard_findings", "What the guard found", ("stage", "kind", "action")
        )
        self._other_tries(model)
        self.tokens = Counter("ballast_tokens", "Tokens by tier and kind", (*tier, "kind"))
        self.money = Counter(
            "ballast_money_micro", "Micro-units of money", ("model", "provider", "currency")
        )
        self.queue_wait = Histogram(
            "ballast_queue_wait_seconds", "Held before a target was free", model, FIRST_TOKEN_S
        )
        self._predictions(tier)
        self.first_token = Histogram(
            "ballast_first_token_seconds", "Sent to first content", tier, FIRST_TOKEN_S
        )
        self.inter_token = Histogram(
            "ballast_inter_token_seconds", "Mean gap of one answer", tier, TOKEN_S
        )
        self.whole = Histogram("ballast_request_seconds", "Arrival to last byte", tier, WHOLE_S)
        self.more: list[Counter] = []
        """Those that other parts count themselves."""
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def _predictions(self, tier: tuple[str, str]) -> None:
        """What was predicted, and how true it was."""
        self.predicted = Histogram(
            "ballast_first_token_predicted_seconds", "Predicted when sent", tier, FIRST_TOKEN_S
        )
        self.first_ratio = Histogram(
            "ballast_first_token_seen_to_predicted_ratio", "Seen / predicted p50", tier, RATIOS
        )
        self.whole_ratio = Histogram(
            "ballast_request_seen_to_predicted_ratio", "Seen / predicted p50", tier, RATIOS
        )
        self.beyond = Counter(
            "ballast_beyond_predicted_p90", "Took longer than predicted p90", (*tier, "what")
        )

    def _other_tries(self, model: tuple[str]) -> None:
        """Of tries that stand in for another."""
        self.rescues = Counter(
            "ballast_rescues", "Broken streams that went on, by the call's end",
            ("model", "outcome"),
        )  # fmt: skip
        self.rescue_s = Histogram(
            "ballast_rescue_seconds", "From a break to the next block", model, FIRST_TOKEN_S
        )
        self.homecomings = Counter(
            "ballast_homecomings", "Calls whose content a third party refused, by how they ended",
            ("model", "operator", "outcome"),
        )  # fmt: skip

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at scrape."""
        for value in list(vars(self).values()):
            if isinstance(value, Counter | Histogram):
                yield value.family()
        for counter in self.more:
            yield counter.family()
        for name, text, labels, values in self._gauges():
            family = GaugeMetricFamily(name, text, labels=labels)
            for key, number in values.items():
                family.add_metric(key, number)
            yield family

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)
