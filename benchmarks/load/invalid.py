"""Why a run is no measurement of its target: codes and numbers, told in either language. Pure."""

from __future__ import annotations

from typing import Protocol

import msgspec

from benchmarks.load.percentiles import Spread
from benchmarks.load.wording import Language, text
from models.worded import Worded

LATE_P99_S = 0.05
"""A sender later than this in one of 100 requests sent another load than it was asked for."""
LATE_MAX_S = 1.0
CPU_SHARE_MAX = 0.9
"""Of its core: above, its own work is in the times."""
ANSWERS_MIN = 20
"""Below, a p95 is one request's story."""
FEW = "few"


class Sender(Protocol):
    """What is asked of the sending machine."""

    @property
    def cpu_share(self) -> float: ...
    @property
    def late_ms(self) -> Spread: ...
    @property
    def late_max_ms(self) -> float: ...
    @property
    def not_sent(self) -> int: ...


class Why(msgspec.Struct, frozen=True):
    """One reason."""

    code: str
    values: dict[str, str] = {}

    def told(self, language: Language) -> str:
        """In words."""
        return text(f"why_{self.code}", language, **self.values)

    def worded(self) -> Worded:
        """In English, with its code for a reader who comes later."""
        return Worded.made(f"why_{self.code}", self.told("en"), self.values)


def whys(sender: Sender, sent: int, good: int, ran_dry: bool) -> list[Why]:
    """All of them; empty: the run may be believed. Of the requests after the warm-up `sent` were
    sent and `good` answered."""
    late, found = sender.late_ms, []
    if not sent:
        found.append(Why("nothing"))
    if late.p99 > LATE_P99_S * 1e3 or sender.late_max_ms > LATE_MAX_S * 1e3:
        values = {
            "p99": f"{late.p99:.0f}", "most": f"{sender.late_max_ms:.0f}",
            "p99_limit": f"{LATE_P99_S * 1e3:.0f}", "most_limit": f"{LATE_MAX_S * 1e3:.0f}",
        }  # fmt: skip
        found.append(Why("late", values))
    if sender.cpu_share > CPU_SHARE_MAX:
        found.append(Why("busy", {"share": f"{sender.cpu_share:.0%}"}))
    if sender.not_sent:
        found.append(Why("not_sent", {"count": str(sender.not_sent)}))
    if ran_dry:
        found.append(Why("dry"))
    if sent and good < ANSWERS_MIN:
        found.append(Why(FEW, {"count": str(good), "least": str(ANSWERS_MIN)}))
    return found
