"""`ballast audit policy`: which policy stood in settings and files, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Any, NamedTuple

import typer
import yaml

from ballast import running
from ballast.admin_flags import AsJson, Config
from ballast.admin_words import clean, table, when
from ballast.messages import Said
from ballast.printing import print_json
from ballast.problem import ProblemError, worded
from serving.audit.recorder import PAGE, details_of
from serving.directory.base import DirectoryAway, DirectoryStore, decode_event
from serving.directory.store import opener

SHOWN_MAX = 1000
"""The latest; older ones by `--number`."""


class Recorded(NamedTuple):
    """One record, without the policy itself."""

    number: int
    at_ms: int
    actor: str
    digest: str
    changed: list[str]


def policy(
    number: Annotated[int, typer.Option(help="Print the policy of this record.", min=0)] = 0,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List every policy that settings and files ever gave a gateway here, or print one of them:
    tenants, keys by id, providers, residency, guard, budgets, limits. No secret is in it."""
    open_store = opener(running.settings_of(config))
    try:
        with closing(open_store()) as store:
            if number:
                _print(_one(store, number), as_json=as_json)
                return
            rows = list(deque(_all(store), SHOWN_MAX))
    except DirectoryAway as error:
        raise ProblemError(worded(error), Said("audit.doctor")) from None
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    table(
        ("number", "at", "by", "digest", "changed"),
        [(r.number, when(r.at_ms), r.actor, r.digest[:16], ", ".join(r.changed)) for r in rows],
    )


def _all(store: DirectoryStore) -> Iterator[Recorded]:
    after = 0
    while page := store.history(after, PAGE):
        for entry in page:
            found = details_of(entry)
            if found is not None:
                told = decode_event(entry.data)
                changed = [str(name) for name in found.get("changed") or ()]
                mark = str(found.get("digest", ""))
                yield Recorded(entry.number, told.at_ms, told.actor, mark, changed)
        after = page[-1].number


def _one(store: DirectoryStore, number: int) -> dict[str, Any]:
    page = store.history(number - 1, 1)
    found = details_of(page[0]) if page and page[0].number == number else None
    if found is None:
        raise ProblemError(Said("audit.no_policy", number=number), Said("audit.see_policy"))
    return found


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    text = yaml.safe_dump(found, allow_unicode=True, sort_keys=True)
    typer.echo("\n".join(_line(line) for line in text.split("\n")))


def _line(line: str) -> str:
    """Nothing in it moves the cursor; its indentation stays."""
    body = line.lstrip(" ")
    return " " * (len(line) - len(body)) + (clean(body) if body else "")
