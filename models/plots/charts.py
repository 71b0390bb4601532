"""Plots as SVG text that stands inside a page: lines, stacked areas, bars. Pure.

Colours are classes of the page (`page.py`), so that light and dark are one picture. Every mark has
a tooltip; every axis begins and ends at a round number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TypeAlias

import msgspec

from models.plots.axes import Axis, linear, short

WIDTH, HEIGHT = 640, 290
"""Two stand beside each other on a page: any wider, and their words are too small to read."""
LEFT, RIGHT, TOP, BOTTOM = 62, 126, 20, 46
EACH = 15
"""Of a name at a curve's end, from the next one."""
POINTS_MAX = 700
"""Of one line: more than pixels are no help, and weigh on the page."""


class Line(msgspec.Struct, frozen=True):
    """One curve."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    is_dashed: bool = False
    is_step: bool = False


class Mark(msgspec.Struct, frozen=True):
    """A vertical line with words."""

    at: float
    words: str
    is_faint: bool = False


def lines(
    title: str, axes: tuple[Axis, Axis], curves: Sequence[Line], marks: Sequence[Mark] = ()
) -> str:
    """Curves, named at their ends, over vertical marks."""
    x, y = axes
    parts = [_frame(x, y)]
    parts += [_curve(line, x, y) for line in curves]
    words: list[str] = []
    for row, mark in enumerate(sorted(marks, key=lambda one: one.at)):
        at = LEFT + x.at(mark.at) * _inner()[0]
        kind = "mark faint" if mark.is_faint else "mark"
        parts.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" '
                     f'y2="{HEIGHT - BOTTOM}"/>')  # fmt: skip
        side, shift = ("end", -4) if x.at(mark.at) > 0.6 else ("start", 4)
        low = HEIGHT - BOTTOM - 10 - 16 * (len(marks) - 1 - row)
        words.append(text(at + shift, low, mark.words, "note", side))
    parts += [*words, *_ends(curves, y)]  # over all lines, also those of marks further right
    return svg(title, parts)


def areas(title: str, axes: tuple[Axis, Axis], layers: Sequence[Line]) -> str:
    """Layers stacked from below, as steps."""
    x, y = axes
    floor = [0.0] * len(layers[0].points) if layers else []
    parts = [_frame(x, y)]
    tops: list[Line] = []
    for layer in layers:
        top = [f + value for f, (_, value) in zip(floor, layer.points, strict=True)]
        xs = [at for at, _ in layer.points]
        over = list(zip(xs, top, strict=True))
        under = list(zip(xs, floor, strict=True))
        path = _places(over, x, y, is_step=True) + _places(under, x, y, is_step=True)[::-1]
        parts.append(f'<path class="f{layer.colour}" d="M{" L".join(path)} Z">'
                     f"{tip(layer.name)}</path>")  # fmt: skip
        middle = [(a, (f + t) / 2) for a, f, t in zip(xs, floor, top, strict=True)]
        if any(t - f > 1e-6 for f, t in zip(floor, top, strict=True)):
            tops.append(Line(layer.name, middle, layer.colour))
        floor = top
    parts += _ends(tops, y)
    return svg(title, [*parts])


Bars: TypeAlias = Sequence[tuple[str, Sequence[float]]]
"""(bar, pieces from below)."""


def bars(title: str, groups: Sequence[tuple[str, Bars]], label: str, colours: Sequence[int]) -> str:
    """Groups of stacked bars: (group, (bar, pieces)); pieces have the colours in order."""
    totals = [sum(pieces) for _, group in groups for _, pieces in group]
    y = linear(totals or [1.0], label)
    wide, _ = _inner(right=16)
    parts = [_frame(None, y, right=16)]
    each = wide / max(1, len(groups))
    for k, (name, group) in enumerate(groups):
        left = LEFT + k * each + each * 0.04
        one = each * 0.92 / max(1, len(group))
        parts.append(text(left + each * 0.46, HEIGHT - 8, name, "axis", "middle"))
        for j, (bar, pieces) in enumerate(group):
            at, base = left + j * one, 0.0
            for piece, colour in zip(pieces, colours, strict=True):
                top, low = _y(y, base + piece), _y(y, base)
                if low - top > 0.05:
                    parts.append(
                        f'<rect class="f{colour}" x="{at + one * 0.06:.1f}" y="{top:.1f}" '
                        f'width="{one * 0.88:.1f}" height="{low - top:.1f}">'
                        f"{tip(f'{name}, {bar}: {short(piece)}')}</rect>"
                    )
                base += piece
            parts.append(text(at + one / 2, _y(y, base) - 4, short(base), "note", "middle"))
            parts.append(text(at + one / 2, HEIGHT - BOTTOM + 14, bar, "axis", "middle"))
    return svg(title, parts)


def _inner(right: int = RIGHT) -> tuple[float, float]:
    return WIDTH - LEFT - right, HEIGHT - TOP - BOTTOM


def _y(axis: Axis, value: float) -> float:
    return TOP + (1 - axis.at(value)) * _inner()[1]


def _frame(x: Axis | None, y: Axis, right: int = RIGHT) -> str:
    parts = []
    for tick in y.ticks():
        at = _y(y, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - right}" y1="{at:.1f}" '
                     f'y2="{at:.1f}"/>')  # fmt: skip
        parts.append(text(LEFT - 8, at + 4, y.words(tick), "axis", "end"))
    if x is not None:
        for tick in x.ticks():
            at = LEFT + x.at(tick) * _inner(right)[0]
            parts.append(text(at, HEIGHT - BOTTOM + 16, x.words(tick), "axis", "middle"))
        parts.append(text(LEFT + _inner(right)[0] / 2, HEIGHT - 8, x.label, "axis", "middle"))
    parts.append(text(LEFT, TOP - 6, y.label, "axis"))
    return "".join(parts)


def _curve(line: Line, x: Axis, y: Axis) -> str:
    dash = " dashed" if line.is_dashed else ""
    path = _places(_thin(line.points), x, y, is_step=line.is_step)
    return f'<path class="l{line.colour}{dash}" d="M{" L".join(path)}">{tip(line.name)}</path>'


def _thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Fewer points: of each stretch its highest, since peaks are what one looks for."""
    each = -(-len(points) // POINTS_MAX)
    if each <= 1:
        return points
    return [max(points[k : k + each], key=lambda p: p[1]) for k in range(0, len(points), each)]


def _places(points: Sequence[tuple[float, float]], x: Axis, y: Axis, *, is_step: bool) -> list[str]:
    found: list[str] = []
    before: float | None = None
    for value, height in points:
        a, b = LEFT + x.at(value) * _inner()[0], _y(y, height)
        if is_step and before is not None:
            found.append(f"{a:.1f} {before:.1f}")
        found.append(f"{a:.1f} {b:.1f}")
        before = b
    return found


def _ends(curves: Sequence[Line], y: Axis) -> Iterator[str]:
    """Names at the right, moved apart where they would overlap."""
    wanted = [(_y(y, line.points[-1][1]), line) for line in curves if line.points]
    wanted.sort(key=lambda pair: pair[0])
    places, last = [], -math.inf
    for at, _ in wanted:
        last = max(at, last + EACH)
        places.append(last)
    least = math.inf
    for k in range(len(places) - 1, -1, -1):  # not into the numbers of the axis below
        places[k] = min(places[k], HEIGHT - BOTTOM - 4 if least == math.inf else least - EACH)
        least = places[k]
    for place, (_, line) in zip(places, wanted, strict=True):
        yield text(WIDTH - RIGHT + 6, place + 4, line.name, f"end t{line.colour}")


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'


def tip(words: str) -> str:
    return f"<title>{escape(words)}</title>"


def svg(title: str, parts: Sequence[str], height: int = HEIGHT) -> str:
    return (f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
            f"{''.join(parts)}</svg>")  # fmt: skip
