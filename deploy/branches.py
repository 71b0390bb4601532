"""Which way each conditional of the chart went in a render: its templates, copied with marks.

A mark writes into a map that the render carries along and that is printed at the end of each file;
it prints nothing where it stands, so the copy renders what the chart renders. Counted are `if`,
`else if`, `else`, `with` and `range` (each taken, and each passed by) and the calls of `default`,
`ternary` and `dig` (each way). A `fail` tells what was marked up to it. Refuses nothing; a
construct it does not know stays as it is, and `test_branches.py` compares both renders.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

STRING = r'"(?:[^"\\]|\\.)*"|`[^`]*`'
ACTION = re.compile(rf"\{{\{{(-?)\s*(/\*.*?\*/|(?:{STRING}|[^\"`])*?)\s*(-?)\}}\}}", re.DOTALL)
TOKEN = re.compile(rf'{STRING}|[()|]|\s+|[^\s()|"`]+')
DOLLAR = re.compile(r"\$(?![A-Za-z_])")
TOLD = "BRANCHES"
NAME = "taken-in-"


@dataclass
class Marks:
    """All ways there are, by name: `gateway.yaml:30 if taken`."""

    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """With the action that each belongs to, and those whose blocks it stands in, inmost first."""
    place: str = ""
    said: tuple[str, ...] = ()

    def add(self, what: str, *ways: str) -> list[str]:
        """Names of the ways of the conditional that stands at `place`."""
        count, label = 1, f"{self.place} {what}"
        while f"{label} {ways[0]}" in self.names:
            count += 1
            label = f"{self.place} {what} ({count})"
        made = [f"{label} {way}" for way in ways]
        self.names |= dict.fromkeys(made, self.said)
        return made


def marked(chart: Path, copy: Path) -> dict[str, tuple[str, ...]]:
    """Copies the chart with marks into its templates; all ways, each with its action
    and those it stands in."""
    shutil.copytree(chart, copy)
    marks = Marks()
    for path in sorted((copy / "templates").iterdir()):
        text = _File(path.name, marks).rewrite(path.read_text("utf-8"))
        if path.suffix == ".tpl":
            path.write_text(text, "utf-8")
            continue
        if path.name == "NOTES.txt":
            # Helm prints notes at an install only: render them for their marks.
            path.unlink()
            path = path.with_name("notes.yaml")
            text = f'{{{{- define "marked.notes" -}}}}{text}{{{{ end }}}}'
            text += '{{- $_ := include "marked.notes" $ -}}'
        begin = '{{- $_ := set $ "marks" dict -}}'
        told = f"---\nkind: ConfigMap\napiVersion: v1\nmetadata: {{name: {NAME}{path.stem}}}\n"
        end = f"\n{told}taken: {{{{ keys $.marks | toJson }}}}\n"
        path.write_text(f"{begin}{text}{end}", "utf-8")
    return marks.names


def seen(text: str) -> set[str]:
    """Ways that a render, or the words of a refusal, tell of."""
    found: set[str] = set()
    for told in re.findall(r"^taken: (\[.*\])$", text, re.MULTILINE):
        found |= set(json.loads(told))
    for told in re.findall(rf"{TOLD}(\[.*?\])", text):
        found |= set(json.loads(told))
    return found


def unmarked(text: str) -> str:
    """A render without what marks add to it."""
    parts = re.split(r"^---\n", text, flags=re.MULTILINE)
    return "---\n".join(p for p in parts if f"name: {NAME}" not in p)


class _File:
    """One template: its actions in order, with the blocks that are open."""

    def __init__(self, name: str, marks: Marks) -> None:
        self.name, self.marks = name, marks
        self.open: list[tuple[str, str, str]] = []
        """Keyword of a block, the name of the way past it (empty: an `else` stands), its action."""

    def rewrite(self, text: str) -> str:
        done, at = [], 0
        for action in ACTION.finditer(text):
            done.append(text[at : action.start()])
            at = action.end()
            line = text.count("\n", 0, action.start()) + 1
            self.marks.place = f"{self.name}:{line}"
            self.marks.said = (action[2], *(one[2] for one in reversed(self.open)))
            done.append(self._action(action[1], action[2], action[3]))
        return "".join([*done, text[at:]])

    def _action(self, left: str, said: str, right: str) -> str:
        word = said.split(None, 1)[0] if said else ""
        if said.startswith("/*"):
            return f"{{{{{left}{' ' if left else ''}{said}{' ' if right else ''}{right}}}}}"
        if word == "end":
            return self._end(left, right)
        if word == "define":
            self.open.append(("define", "", said))
            top = f"{{{{ $top := $.given {right}}}}}{{{{ range list $top {right}}}}}"
            return f"{{{{{left} {said} {right}}}}}{top}"
        rewritten = self._call(said)
        body = f"{{{{{left} {rewritten} {right}}}}}"
        if word in ("if", "with", "range"):
            taken, passed = self.marks.add(word, "taken", "passed by")
            self.open.append((word, passed, said))
            return body + _mark(taken, right)
        if word == "else":
            kind, passed, _ = self.open.pop()
            # The way past a block that has an `else` is that `else`.
            del self.marks.names[passed]
            if said == "else":
                (taken,) = self.marks.add(f"else of {kind}", "taken")
                self.open.append((kind, "", said))
                return body + _mark(taken, right)
            taken, passed = self.marks.add("else if", "taken", "passed by")
            self.open.append((kind, passed, said))
            return body + _mark(taken, right)
        return body

    def _end(self, left: str, right: str) -> str:
        kind, passed, _ = self.open.pop()
        if kind == "define":
            return f"{{{{{left} end }}}}{{{{ end {right}}}}}"
        if not passed:
            return f"{{{{{left} end {right}}}}}"
        return f"{{{{{left} else }}}}{_mark(passed, '')}{{{{ end {right}}}}}"

    def _call(self, said: str) -> str:
        """The words of an action, with includes that carry the marks along."""
        if any(one[0] == "define" for one in self.open):
            parts = re.split(f"({STRING})", said)
            said = "".join(p if i % 2 else DOLLAR.sub("$top", p) for i, p in enumerate(parts))
        return "".join(self._sequence(TOKEN.findall(said)))

    def _sequence(self, tokens: list[str]) -> list[str]:
        """Tokens of one level; a group in parentheses is one element."""
        elements: list[str] = []
        while tokens:
            element = tokens.pop(0)
            if element == ")":
                break
            if element == "(":
                inner = "".join(self._sequence(tokens))
                element = f"({inner})"
                if tokens and tokens[0].startswith("."):
                    element += tokens.pop(0)
            elements.append(element)
        return self._marked_calls(elements)

    def _marked_calls(self, elements: list[str]) -> list[str]:
        solid = [i for i, e in enumerate(elements) if e.strip()]
        for order, index in enumerate(solid):
            word = elements[index]
            given: list[int] = []
            for later in solid[order + 1 :]:
                if elements[later] == "|":
                    break
                given.append(later)
            if word == "include" and len(given) >= 2:
                at = given[1]
                elements[at] = f'(dict "marks" $.marks "given" {elements[at]})'
            elif word == "fail" and given:
                text = elements[given[0]]
                told = f'(printf "%s {TOLD}%s" {text} (keys $.marks | toJson))'
                elements[given[0]] = told
            elif word in ("default", "ternary", "dig"):
                self._choice(elements, index, given)
        return elements

    def _choice(self, elements: list[str], index: int, given: list[int]) -> None:
        """`default A B`, `ternary A B C`, `dig KEY... A MAP`: which of its two ways."""
        word, values = elements[index], [elements[i] for i in given]
        counts = {"default": 2, "ternary": 3}
        if len(values) < counts.get(word, 3):
            return
        values = values[: counts.get(word, len(values))]
        if word == "default":
            is_first = f"(empty {values[1]})"
        elif word == "ternary":
            is_first = values[2]
        else:
            asked = " ".join([*values[:-2], '"(none)"', values[-1]])
            is_first = f'(eq "(none)" (dig {asked} | toString))'
        first, second = self.marks.add(word, "first", "second")
        way = f'(ternary "{first}" "{second}" {is_first})'
        call = " ".join([word, *values])
        elements[index] = f"(index (list ({call}) (set $.marks {way} true)) 0)"
        for i in given[: len(values)]:
            elements[i] = ""


def _mark(name: str, right: str) -> str:
    return f'{{{{ $_ := set $.marks "{name}" true {right}}}}}'
