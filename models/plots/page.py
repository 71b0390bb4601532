"""A page that stands alone: no script, nothing fetched, light or dark. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import msgspec

STYLE = """
:root{color-scheme:light dark;--bg:#fbfaf8;--card:#fff;--ink:#1d2329;--dim:#626d78;--rule:#e3e1dc;
--c0:#2563c9;--c1:#d9722b;--c2:#2b9a66;--c3:#8557c7;--c4:#c23b7c;--c5:#8a8426;--c6:#4f8fa8;
--c7:#7a7f87}
@media(prefers-color-scheme:dark){:root{--bg:#14181c;--card:#1b2127;--ink:#e7eaed;--dim:#98a3ae;
--rule:#303841;--c0:#6ea8ff;--c1:#f2995c;--c2:#5fcf97;--c3:#b691f2;--c4:#ee7fb3;--c5:#cfc95c;
--c6:#7fc4de;--c7:#a3a9b1}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans","Noto Sans CJK SC",sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 20px 60px}
h1{font-size:27px;line-height:1.2;margin:0 0 4px}
h2{font-size:17px;margin:0 0 2px}.lead{color:var(--dim);margin:0 0 22px;max-width:80ch}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;
margin:0 0 14px}
.figure,.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;
padding:14px 16px}
.figure b{display:block;font-size:25px;line-height:1.25;font-variant-numeric:tabular-nums}
.figure span{color:var(--dim);font-size:13px}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(520px,100%),1fr));gap:14px}
.card p{color:var(--dim);margin:0 0 8px;font-size:13.5px}.wide{grid-column:1/-1}
svg{width:100%;height:auto;display:block}svg text{font-size:12px;fill:var(--dim)}

svg text.note{font-size:11.5px;fill:var(--ink);
paint-order:stroke;stroke:var(--card);stroke-width:3px}
svg text.end{font-weight:600}
.grid{stroke:var(--rule);stroke-width:1}.mark{stroke:var(--ink);stroke-width:1;stroke-dasharray:4 3}
.mark.faint{stroke:var(--dim);stroke-dasharray:1 3}.zero{stroke:var(--ink);stroke-width:1}
.dashed{stroke-dasharray:5 4}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{text-align:left}th{color:var(--dim);font-weight:600}
code{font-size:.93em}td.l,th.l{text-align:left}tr.best td{font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;margin:0 0 4px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px}
footer{color:var(--dim);font-size:12.5px;margin-top:22px}
@media(max-width:600px){main{padding:20px 10px 40px}.figure,.card{padding:10px}th,td{padding:4px}
table{font-size:12.5px}.figures{grid-template-columns:1fr 1fr}}
@media print{body{background:#fff}.card,.figure{break-inside:avoid}}
"""
COLOURS = 8
_CODE = re.compile(r"`([^`\n]+)`")


class Table(msgspec.Struct, frozen=True):
    """Cells as text; columns that begin with `<` are aligned to the left."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: int | None = None
    """Row in bold."""


class Card(msgspec.Struct, frozen=True):
    """One thing to look at: a heading, a sentence that says what to see, a picture or a table."""

    heading: str
    sentence: str
    picture: str = ""
    """SVG of `charts`."""
    table: Table | None = None
    legend: Sequence[tuple[str, int]] = ()
    is_wide: bool = False


def page(title: str, lead: str, figures: Sequence[tuple[str, str]], cards: Sequence[Card],
         foot: str) -> str:  # fmt: skip
    """The whole document; `figures` are (number, what it is)."""
    colours = "".join(
        f".l{k}{{fill:none;stroke:var(--c{k});stroke-width:2}}.f{k}{{fill:var(--c{k});"
        f"fill-opacity:.86}}.t{k}{{fill:var(--c{k})!important}}.b{k}{{background:var(--c{k})}}"
        for k in range(COLOURS)
    )
    tops = "".join(
        f'<div class="figure"><b>{escape(number)}</b><span>{escape(what)}</span></div>'
        for number, what in figures
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{colours}</style></head>\n<body><main>"
        f'<h1>{escape(title)}</h1><p class="lead">{_text(lead)}</p>'
        f'<div class="figures">{tops}</div><div class="grid2">{"".join(map(_card, cards))}</div>'
        f"<footer>{_text(foot)}</footer></main></body></html>\n"
    )


def _text(text: str) -> str:
    """Words as HTML; what stands between backticks, as a terminal shows commands, is code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def in_language(document: str, language: str) -> str:
    """The same page, said to be in that language: browsers choose fonts and voices by it."""
    return document.replace('<html lang="en">', f'<html lang="{language}">', 1)


def _card(card: Card) -> str:
    legend = "".join(
        f'<span><i class="b{colour}"></i>{escape(name)}</span>' for name, colour in card.legend
    )
    return (
        f'<section class="card{" wide" if card.is_wide else ""}"><h2>{escape(card.heading)}</h2>'
        f"<p>{_text(card.sentence)}</p>"
        + (f'<div class="legend">{legend}</div>' if legend else "")
        + card.picture
        + (_table(card.table) if card.table is not None else "")
        + "</section>\n"
    )


def _table(table: Table) -> str:
    sides = [' class="l"' if name.startswith("<") else "" for name in table.columns]
    head = "".join(
        f"<th{side}>{escape(name.removeprefix('<'))}</th>"
        for side, name in zip(sides, table.columns, strict=True)
    )
    body = "".join(
        f"<tr{' class=best' if k == table.best else ''}>"
        + "".join(f"<td{s}>{_text(cell)}</td>" for s, cell in zip(sides, row, strict=True))
        + "</tr>"
        for k, row in enumerate(table.rows)
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
