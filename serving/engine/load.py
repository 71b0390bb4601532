"""The replica's report of its own load, and the watchdog that calls a silent engine dead. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadReport:
    """One engine's load at one moment, as the gateway's choice and the controller read it."""

    waiting: int
    running: int
    queued_tokens: int
    """Prompt tokens of requests still in prefill."""
    kv_use: float
    """Share of KV memory in use, 0..1."""
    at_ms: int
    """Unix time of the report."""

    def header(self) -> bytes:
        """Value of `x-ballast-load`."""
        return (
            f"w={self.waiting},r={self.running},q={self.queued_tokens},"
            f"kv={self.kv_use:.4f},at={self.at_ms}"
        ).encode()

    def fields(self) -> dict[str, int | float]:
        """The same under the same short names, for JSON."""
        return {
            "w": self.waiting,
            "r": self.running,
            "q": self.queued_tokens,
            "kv": round(self.kv_use, 4),
            "at": self.at_ms,
        }


class EngineMeter:
    """Keeps what the engine core last said of itself; `steps` only ever grows."""

    def __init__(self) -> None:
        self.steps = 0
        self._running = 0
        self._kv_use = 0.0

    def record(self, running: int | None, kv_use: float | None) -> None:
        """Note one output of the engine core; None = it carried no scheduler statistics."""
        self.steps += 1
        if running is not None:
            self._running = running
        if kv_use is not None:
            self._kv_use = kv_use

    def report(self, unfinished: int, queued_tokens: int, at_ms: int) -> LoadReport:
        """Combine exact counts of the front end with the core's last word on who runs."""
        running = min(self._running, unfinished)
        return LoadReport(unfinished - running, running, queued_tokens, self._kv_use, at_ms)


class Watchdog:
    """Says for how long an engine with unfinished work has produced nothing.

    vLLM's own health check only reads an error flag: a hung core looks healthy for ever.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._steps = -1
        self._progress_s: float | None = None

    def stalled_s(self, now_s: float, unfinished: int, steps: int) -> float:
        """Seconds without output; 0 when idle. Mutates: each call is one observation."""
        if self._progress_s is None or unfinished == 0 or steps != self._steps:
            self._steps = steps
            self._progress_s = now_s
        return now_s - self._progress_s

    def is_dead(self, now_s: float, unfinished: int, steps: int) -> bool:
        """True once the silence has lasted the limit."""
        return self.stalled_s(now_s, unfinished, steps) >= self._limit_s
