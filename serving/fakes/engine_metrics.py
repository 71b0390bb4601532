"""The simulated engine's Prometheus page, with vLLM's metric names. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from models.capacity import Load
from serving.fakes.scheduler import Counters

FIRST_TOKEN_BUCKETS_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
"""vLLM 0.32's bounds of `vllm:time_to_first_token_seconds`."""


class EngineMetrics:
    """Counts what the scheduler does not."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(FIRST_TOKEN_BUCKETS_S) + 1)
        self._sum_s = 0.0
        self._finished: Counter[str] = Counter()

    def observe_first_token(self, seconds: float) -> None:
        """Record a time to first token."""
        self._buckets[bisect_left(FIRST_TOKEN_BUCKETS_S, seconds)] += 1
        self._sum_s += seconds

    def finished(self, reason: str) -> None:
        """Record the end of a sequence: stop, length or abort."""
        self._finished[reason] += 1

    def page(self, model: str, load: Load, counters: Counters) -> str:
        """The page in the Prometheus text format."""
        labels = f'engine="0",model_name="{model}"'
        lines: list[str] = []
        for name, kind, value in (
            ("num_requests_running", "gauge", load.running),
            ("num_requests_waiting", "gauge", load.waiting),
            ("kv_cache_usage_perc", "gauge", load.kv_use),
            ("num_preemptions_total", "counter", counters.preemptions),
            ("prefix_cache_queries_total", "counter", counters.prefix_queries),
            ("prefix_cache_hits_total", "counter", counters.prefix_hits),
            ("prompt_tokens_total", "counter", counters.prompt_tokens),
            ("generation_tokens_total", "counter", counters.generated_tokens),
        ):
            lines += (f"# TYPE vllm:{name} {kind}", f"vllm:{name}{{{labels}}} {value}")
        lines.append("# TYPE vllm:request_success_total counter")
        for reason in ("stop", "length", "abort"):
            count = self._finished[reason]
            lines.append(
                f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}'
            )
        return "\n".join((*lines, *self._histogram(labels), ""))

    def _histogram(self, labels: str) -> list[str]:
        name = "vllm:time_to_first_token_seconds"
        lines = [f"# TYPE {name} histogram"]
        below = 0
        for bound, count in zip((*FIRST_TOKEN_BUCKETS_S, "+Inf"), self._buckets, strict=True):
            below += count
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {below}')
        lines.append(f"{name}_count{{{labels}}} {below}")
        lines.append(f"{name}_sum{{{labels}}} {self._sum_s}")
        return lines
