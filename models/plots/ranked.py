"""Plots whose rows are named at the left: a tornado, and values with their range. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from models.plots.axes import Axis, linear, short
from models.plots.charts import WIDTH, svg, text, tip

Swing: TypeAlias = tuple[float, str]
"""(result, factor)."""
ROW = 26


def ranked(title: str, rows: Sequence[tuple[str, float, float, float]], label: str, best: int
           ) -> str:  # fmt: skip
    """Rows of (name, value, least, most) from 1 on; the row `best` stands out."""
    x = Axis(1.0, max(1.05, linear([m for *_, m in rows], low=1.0).high), label=label)
    left, height = 222, ROW * len(rows) + 52
    wide = WIDTH - left - 50

    def place(value: float) -> float:
        return left + x.at(value) * wide

    parts = [
        f'<line class="grid" x1="{place(t):.1f}" x2="{place(t):.1f}" y1="4" y2="{height - 40}"/>'
        + text(place(t), height - 25, x.words(t), "axis", "middle") for t in x.ticks()
    ]  # fmt: skip
    for k, (name, value, least, most) in enumerate(rows):
        at, colour = 8 + ROW * k, 2 if k == best else 7
        parts.append(text(left - 10, at + 13, name, "axis", "end"))
        parts.append(f'<rect class="f{colour}" x="{left}" y="{at}" height="17" '
                     f'width="{max(1.0, place(value) - left):.1f}">'
                     f"{tip(f'{name}: {value:.3f}')}</rect>")  # fmt: skip
        parts.append(f'<line class="zero" x1="{place(least):.1f}" x2="{place(most):.1f}" '
                     f'y1="{at + 8.5}" y2="{at + 8.5}"/>')  # fmt: skip
        parts.append(text(place(most) + 6, at + 13, f"{value:.3f}", "note"))
    parts.append(text(left + wide / 2, height - 6, label, "axis", "middle"))
    return svg(title, parts, height)


def tornado(title: str, base: float, rows: Sequence[tuple[str, Swing, Swing]], label: str) -> str:
    """Rows of (name, (result, factor) at the low end, the same at the high end)."""
    x = linear([base, *(v for _, a, b in rows for v in (a[0], b[0]))], label, low=None)
    left, height = 128, 34 * len(rows) + 60
    wide = WIDTH - left - 40

    def place(value: float) -> float:
        return left + x.at(value) * wide

    parts = [
        f'<line class="grid" x1="{place(t):.1f}" x2="{place(t):.1f}" y1="10" y2="{height - 42}"/>'
        + text(place(t), height - 26, x.words(t), "axis", "middle") for t in x.ticks()
    ]  # fmt: skip
    for k, (name, low, high) in enumerate(rows):
        at = 16 + 34 * k
        parts.append(text(left - 10, at + 15, name, "axis", "end"))
        for (value, factor), colour in ((low, 1), (high, 0)):
            a, b = sorted((place(base), place(value)))
            words = tip(f"{name} {factor}: {short(value)}")
            parts.append(f'<rect class="f{colour}" x="{a:.1f}" y="{at}" width="{b - a:.1f}" '
                         f'height="20">{words}</rect>')  # fmt: skip
            side = "end" if value < base else "start"
            shift = -4 if value < base else 4
            parts.append(text(place(value) + shift, at + 14, factor, "note", side))
    parts.append(f'<line class="mark" x1="{place(base):.1f}" x2="{place(base):.1f}" y1="6" '
                 f'y2="{height - 42}"/>')  # fmt: skip
    if x.low < 0 < x.high:
        parts.append(f'<line class="zero" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="6" '
                     f'y2="{height - 42}"/>')  # fmt: skip
    parts.append(text(left + wide / 2, height - 8, label, "axis", "middle"))
    return svg(title, parts, height)
