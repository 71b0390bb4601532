"""What we add to vLLM's workers: a clock for the stages of a start, and an end with the replica."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from serving.engine.orphan import end_with_replica


class StageClock:
    """Mixed in before a vLLM worker class; each method is the worker's own, timed."""

    def init_device(self) -> Any:
        config = self.parallel_config  # type: ignore[attr-defined]
        end_with_replica(is_in_core=config.distributed_executor_backend == "uni")
        return super().init_device()  # type: ignore[misc]

    def load_model(self, *args: Any, **named: Any) -> Any:
        with self._timed("load"):
            return super().load_model(*args, **named)  # type: ignore[misc]

    def determine_available_memory(self) -> Any:
        with self._timed("warm_up"):
            return super().determine_available_memory()  # type: ignore[misc]

    def initialize_from_config(self, *args: Any) -> Any:
        with self._timed("warm_up"):
            return super().initialize_from_config(*args)  # type: ignore[misc]

    def compile_or_warm_up_model(self) -> Any:
        with self._timed("warm_up"):
            times = super().compile_or_warm_up_model()  # type: ignore[misc]
        # torch.compile ran inside one of the steps above.
        compiled_s = float(times.language_model + times.encoder)
        seconds = self._seconds()
        seconds["compile"] = compiled_s
        seconds["warm_up"] = max(0.0, seconds["warm_up"] - compiled_s)
        return times

    def stage_seconds(self) -> dict[str, float]:
        """What the stages took, for `collective_rpc`."""
        return dict(self._seconds())

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started_s = time.monotonic()
        try:
            yield
        finally:
            seconds = self._seconds()
            seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - started_s

    def _seconds(self) -> dict[str, float]:
        # Not in __init__: the worker's is called with arguments that are vLLM's business.
        found: dict[str, float] = self.__dict__.setdefault("_stage_seconds", {})
        return found
