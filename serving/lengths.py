"""How long answers are: their mean and spread by model, and by tenant and class, learnt. Pure.

What a call waits for when an engine is full is the end of other answers, so their mean length
scales every predicted wait; a caller's `max_tokens` is only a bound on it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import NamedTuple

from serving.records import Call, LatencyClass

SEEN_MIN = 20
"""Fewer answers say less than the group above, or the profile."""
WEIGHT_MIN = 0.01
"""Of the newest answer in a mean: about the last hundred count."""
SEEN_MAX = 80
"""Then all counts of a histogram are halved: what was learnt fades as the traffic changes. With 400
half of all answers after a change came before it was known (0123)."""
REFRESH_EACH = 8
"""Quantiles are read anew after so many answers."""
GROUPS_MAX = 4096
"""Of tenant and class; beyond it the longest unused is forgotten. About 1 KiB each."""
_GROWTH = 1.25
_FIRST = 4.0
_BINS = 56
"""4 to 850,000 tokens."""
_EDGES = tuple(_FIRST * _GROWTH**place for place in range(1, _BINS))
"""Where each bin but the first begins."""
_SEEN_WEIGHED = 1.0 / WEIGHT_MIN


class Spread(NamedTuple):
    """Tokens of an answer: half are shorter than `p50`, nine of ten than `p90`."""

    p50: float
    p90: float


class Lengths:
    """Of all answers of this process; see the module."""

    def __init__(self) -> None:
        self._models: dict[str, _Group] = {}
        self._groups: OrderedDict[tuple[str, str, LatencyClass], _Group] = OrderedDict()

    def learn(self, call: Call, tokens: int, prompt_tokens: int = 0) -> None:
        """An answer ended after `tokens`; so many of its prompt were computed. Mutates."""
        if tokens <= 0:
            return
        model = self._models.get(call.model)
        if model is None:
            model = self._models[call.model] = _Group()
        model.learn(tokens)
        model.mean_prompt += model.weight * (prompt_tokens - model.mean_prompt)
        key = (call.model, call.tenant, call.latency_class)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
            if len(self._groups) > GROUPS_MAX:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        group.learn(tokens)

    def usual(self, model: str) -> float:
        """Mean tokens of the model's answers; 0 while too few were seen."""
        group = self._models.get(model)
        return group.mean if group is not None and group.seen >= SEEN_MIN else 0.0

    def usual_prompt(self, model: str) -> float:
        """Mean tokens computed for its prompts; 0 while too few were seen."""
        group = self._models.get(model)
        return group.mean_prompt if group is not None and group.seen >= SEEN_MIN else 0.0

    def expected(self, call: Call) -> Spread | None:
        """Of this call's answer, as its tenant's of the same class were, else as the model's;
        None while too few were seen."""
        for group in (
            self._groups.get((call.model, call.tenant, call.latency_class)),
            self._models.get(call.model),
        ):
            if group is not None and group.seen >= SEEN_MIN:
                return group.spread
        return None


class _Group:
    """Answers that are alike."""

    __slots__ = ("_counts", "_total", "mean", "mean_prompt", "seen", "spread", "weight")

    def __init__(self) -> None:
        self.seen = 0
        self.mean = self.mean_prompt = 0.0
        self.weight = 1.0
        """Of the newest answer in a mean."""
        self.spread = Spread(0.0, 0.0)
        self._counts = [0] * _BINS
        self._total = 0

    def learn(self, tokens: int) -> None:
        self.seen += 1
        self.weight = 1.0 / self.seen if self.seen < _SEEN_WEIGHED else WEIGHT_MIN
        self.mean += self.weight * (tokens - self.mean)
        self._counts[bisect_right(_EDGES, tokens)] += 1
        self._total += 1
        if self._total >= SEEN_MAX:
            self._counts = [count // 2 for count in self._counts]
            self._total = sum(self._counts)
        if self.seen % REFRESH_EACH == 0 or self.seen == SEEN_MIN:
            self.spread = Spread(self._quantile(0.5), self._quantile(0.9))

    def _quantile(self, share: float) -> float:
        """Tokens that `share` of the answers keep to, between a bin's bounds by its count."""
        wanted = share * self._total
        for place, count in enumerate(self._counts):
            if count and wanted <= count:
                return float(_FIRST * _GROWTH ** (place + wanted / count))
            wanted -= count
        return float(_FIRST * _GROWTH**_BINS)
