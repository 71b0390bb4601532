"""Waves into rates, ratios within a pair, and the table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.gateway.machine import Provenance
from benchmarks.gateway.report import Spread, origin, spread

OURS, BARE, SERVE_LLM = "ballast", "vllm serve", "ray.serve.llm"
GATE = 0.97
"""Least median of the ratio of our tokens a second to bare vLLM's."""

HEADS = (
    "tokens/s", "ratio to bare vLLM", "first token p50, ms", "engine's CPU ms/token",
    "all else's", "start-up, s",
)  # fmt: skip


class Measured(msgspec.Struct, frozen=True):
    """One server's wave in one pair."""

    server: str
    pair: int
    tokens_s: float
    first_ms: float
    engine_ms_token: float
    """CPU of vLLM's own processes."""
    other_ms_token: float
    """CPU of all others of the server: API server, gateway, Ray."""


class EngineReport(msgspec.Struct, frozen=True):
    """A whole run."""

    origin: Provenance
    streams: int
    tokens: int
    """Of each answer."""
    waves: list[Measured]
    absent: dict[str, str]
    """Why a server is not in it."""
    start_s: dict[str, float]


def ratios(report: EngineReport, server: str) -> Spread | None:
    """Tokens a second, divided by bare vLLM's in the same pair; None where no pair is whole."""
    base = {w.pair: w.tokens_s for w in report.waves if w.server == BARE}
    own = [w for w in report.waves if w.server == server and w.pair in base]
    return spread([round(w.tokens_s / base[w.pair], 4) for w in own]) if own else None


def markdown(report: EngineReport) -> str:
    """The table for `docs/benchmarks.md`, with where it comes from."""
    names = list(dict.fromkeys(w.server for w in report.waves))
    lines = [
        _row(["server", *HEADS]),
        _row(["---"] * (1 + len(HEADS))),
    ]
    for name in names:
        own = [w for w in report.waves if w.server == name]
        ratio = ratios(report, name)
        version = report.origin.versions.get(name, "")
        cells = [
            f"{name} {version}".strip(),
            _cell([w.tokens_s for w in own]),
            "1" if name == BARE else _told(ratio),
            _cell([w.first_ms for w in own]),
            _cell([w.engine_ms_token for w in own]),
            _cell([w.other_ms_token for w in own]),
            f"{report.start_s[name]:.0f}",
        ]
        lines.append(_row(cells))
    lines += ["", *(f"{name}: not in the run: {why}" for name, why in report.absent.items())]
    pairs = len({w.pair for w in report.waves})
    waves = f"{pairs} waves of {report.streams} streams, {report.tokens} tokens each"
    lines += [
        f"Each cell: median (minimum to maximum) of {waves}; a ratio is taken within a pair.",
        "",
        f"Gate: ballast at least {GATE:.0%} of bare vLLM's tokens/s: {verdict(report)}.",
        "",
        *origin(report.origin),
    ]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def verdict(report: EngineReport) -> str:
    """Whether the gate holds: the median decides, a pair below it is said."""
    found = ratios(report, OURS)
    if found is None:
        return "not measured"
    if found.median < GATE:
        return f"no ({found.median:.1%})"
    return "holds" if found.minimum >= GATE else "holds, not in every pair"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(values: list[float]) -> str:
    return _told(spread(values))


def _told(found: Spread | None) -> str:
    if found is None:
        return "-"
    return f"{found.median:.4g} ({found.minimum:.4g} to {found.maximum:.4g})"
