"""What is made below the command line and reaches people goes by a code, or stands here with why.

An error is told in its reader's language only if it was raised with a `Worded`: a plain text, one
put together beside it, and the text of another error (`str(error)`) all lose the code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROSE = re.compile(r"[A-Za-z]{3,},? [a-z]{2,}|\b[a-z]+: [a-z]{3,}")
SAID = {
    "SettingsError": "the command line shows it before anything starts",
    "FinanceError": "the finance commands show it, and the admin API",
    "EvaluationError": "`ballast evaluate`, and the console's votes",
    "SetError": "`ballast evaluate run`",
    "ListFault": "the gateway's start, and `ballast doctor`",
    "Hold": "`/decisions`, the console, `ballast status`",
    "RollBack": "`ballast rollout status`, the console, the history",
    "Pause": "the same",
    "Advance": "the same",
    "Arrive": "the same",
    "Finish": "the same",
    "Unseen": "the same",
}
"""What people read, and where."""
REFUSALS = {"CallerError", "OwnError"}
"""Those of the ops listener, which the command line and the console show."""
API = "of the public API: `error.message` is English, read by programs first (0147)"
CALLERS = {
    "serving/api/batch_requests.py", "serving/api/batches.py", "serving/api/calls.py",
    "serving/api/capacity.py", "serving/api/files.py", "serving/api/hearing.py",
    "serving/api/hints.py", "serving/api/inference.py",
    "serving/api/models.py", "serving/auth.py", "serving/batch", "serving/budgets/door.py",
    "serving/cache", "serving/codecs", "serving/entrance.py", "serving/forwarded.py",
    "serving/guard", "serving/holding.py", "serving/idempotent.py", "serving/keys.py",
    "serving/pipeline.py", "serving/tries.py", "serving/backends",
}  # fmt: skip
"""Modules, or folders of them, whose refusals are the public API's."""
ENGLISH: dict[str, dict[str, str]] = {
    "autoscale/rollouts.py": {"str(error)": "a database's own words"},
}
"""By module: the beginning of a text, and why it has no code."""


def modules() -> list[str]:
    found = [p for layer in ("serving", "autoscale") for p in (ROOT / layer).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def is_public(name: str) -> bool:
    return any(name == one or name.startswith(f"{one}/") for one in CALLERS)


def wanted(name: str, tree: ast.Module) -> set[str]:
    """Names of calls in a module whose text people read."""
    found = set(SAID) | (set() if is_public(name) else REFUSALS)
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    return found | ({"ValueError"} if "pydantic" in imported else set())


def plain(node: ast.expr | None, texts: dict[str, list[tuple[int, ast.expr]]]) -> str:
    """What of an argument is text without a code; empty where nothing is."""
    if isinstance(node, ast.Name):
        before = [value for line, value in texts.get(node.id, ()) if line <= node.lineno]
        return plain(before[-1], {}) if before else ""
    if isinstance(node, ast.IfExp):
        return plain(node.body, texts) or plain(node.orelse, texts)
    if isinstance(node, ast.BinOp | ast.BoolOp):
        parts = [node.left, node.right] if isinstance(node, ast.BinOp) else node.values
        return next((text for one in parts if (text := plain(one, texts))), "")
    if isinstance(node, ast.Subscript):
        return plain(node.value, texts)
    if isinstance(node, ast.JoinedStr):
        # Also `{where}: {error}`: what stands in it loses its code.
        return "".join(
            part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "str":
        return ast.unparse(node)
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_text and PROSE.search(node.value) else ""


CALLS = re.compile(rf"\b(?:{'|'.join((*SAID, *REFUSALS, 'ValueError'))})\(")


def uncoded(name: str, source: str = "") -> Iterator[tuple[int, str]]:
    """(line, text) of what people would read in English whatever they chose."""
    source = source or (ROOT / name).read_text("utf-8")
    if not CALLS.search(source):
        return
    tree = ast.parse(source)
    names = wanted(name, tree)
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        texts: dict[str, list[tuple[int, ast.expr]]] = {}
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                texts.setdefault(node.targets[0].id, []).append((node.lineno, node.value))
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names:
                for given in [*node.args, *(k.value for k in node.keywords if k.arg == "reason")]:
                    if text := plain(given, texts):
                        yield node.lineno, text


def test_what_people_read_goes_by_a_code_or_stands_here_with_why() -> None:
    new, gone = [], []
    for name in modules():
        known, found = ENGLISH.get(name, {}), sorted(set(uncoded(name)))
        new += [
            f"{name}:{line}: {text!r}" for line, text in found
            if not any(text.startswith(one) for one in known)
        ]  # fmt: skip
        texts = [text for _, text in found]
        gone += [f"{name}: {one!r}" for one in known if not any(t.startswith(one) for t in texts)]
    assert not new, "raise it with a Worded, or say in ENGLISH why not:\n" + "\n".join(new)
    assert not gone, f"no longer there, take it out of ENGLISH: {gone}"


SEEN = """
from pydantic import field_validator

def rule(error, x, ok):
    what = f"{x} is wrong here"
    if ok == 1:
        raise SettingsError(what)
    if ok == 2:
        raise FinanceError(str(error))
    if ok == 3:
        raise CallerError("conflict", "it is " + f"{x} already there")
    if ok == 4:
        raise ValueError("keep to one line" if ok else Worded("a", "b"))
    if ok == 5:
        return Hold(reason="waits for more")
    if ok == 6:
        raise OwnError("away", of(error))
    raise CallerError("conflict", Worded("some.code", "so it is, {x}", x=x), param="why")
"""


def test_texts_are_found_however_they_are_put_together() -> None:
    found = uncoded("serving/x.py", SEEN)
    assert [line for line, _ in found] == [7, 9, 11, 13, 15]
    assert [line for line, _ in uncoded("serving/codecs/x.py", SEEN)] == [7, 9, 13, 15]
