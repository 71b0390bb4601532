"""Keys that a command asks with itself (`ballast poc run`, `ballast evaluate run`): made for one
run, and taken back however it ends."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ballast.admin_client import Client, path_of
from ballast.ledger_trace import REPLAYS
from ballast.messages import Said
from ballast.poc_left import WHY
from ballast.problem import ProblemError

SIDES = ("api", "own")
KEY_DAYS = 1
"""Beyond the run's own time, should nobody be left to take a key back."""
EVALUATION = "evaluation"
_ENDING = (signal.SIGTERM, signal.SIGHUP)
Back = Callable[[], Any]


class Wanted(NamedTuple):
    """What a run needs."""

    tenant: str
    spend_micro: int
    currency: str
    seconds: float
    """That it may take."""
    mark: str
    """Ends the names of what is made."""


@contextmanager
def lent(client: Client, of: Wanted, told: Callable[[Said], None]) -> Iterator[dict[str, str]]:
    """A key for each side and the budget that bounds the API's, for as long as the run takes."""
    mark = of.mark
    until = (datetime.now(UTC) + timedelta(KEY_DAYS, of.seconds)).isoformat()
    undo: list[tuple[str, Back]] = []
    _project(client, of.tenant)
    with _told_to_end() as no_more:
        try:
            _budget(client, of, f"{REPLAYS}-{mark}", undo)
            found = {}
            for side, what in zip(SIDES, ("is_canary", "is_load_test"), strict=True):
                row = {"id": f"{REPLAYS}-{side}-{mark}", "tenant": of.tenant, "project": REPLAYS,
                       "expires": until, "exposure": "full", what: True}  # fmt: skip
                found[side] = _key(client, row, undo)
            yield found
        finally:
            no_more()
            _take_back(undo, told)


@contextmanager
def canary(
    client: Client, tenant: str, seconds: float, told: Callable[[Said], None]
) -> Iterator[str]:
    """A key that may name targets, of the tenant or the only one there is, for so long at most."""
    tenant = tenant or _only(client)
    until = (datetime.now(UTC) + timedelta(KEY_DAYS, seconds)).isoformat()
    undo: list[tuple[str, Back]] = []
    with _told_to_end() as no_more:
        try:
            row = {"id": f"{EVALUATION}-{secrets.token_hex(3)}", "tenant": tenant,
                   "project": "default", "feature": EVALUATION, "expires": until,
                   "exposure": "full", "is_canary": True}  # fmt: skip
            yield _key(client, row, undo, EVALUATION)
        finally:
            no_more()
            _take_back(undo, told)


def _only(client: Client) -> str:
    names = [row["id"] for row in client.get("/directory")["tenants"]]
    if len(names) != 1:
        listed = ", ".join(sorted(names)) or "-"
        raise ProblemError(Said("evaluate.whose", names=listed), Said("evaluate.name_tenant"))
    return str(names[0])


def _budget(client: Client, of: Wanted, id_: str, undo: list[tuple[str, Back]]) -> None:
    body = {"id": id_, "limit_micro": of.spend_micro, "currency": of.currency,
            "tenant": of.tenant, "project": REPLAYS, "period": "month"}  # fmt: skip
    back = lambda: client.delete(f"/budgets/{path_of(id_)}", why=WHY)  # noqa: E731
    _made(lambda: client.put("/budgets", body, why=WHY), (id_, back), undo)


def _key(client: Client, row: dict[str, Any], undo: list[tuple[str, Back]], why: str = WHY) -> str:
    id_ = row["id"]
    back = lambda: client.post(f"/keys/{path_of(id_, 'revoke')}", {}, why=why)  # noqa: E731
    told = _made(lambda: client.post("/keys", row, why=why), (id_, back), undo)
    return str(told["key"])


def _made(make: Callable[[], Any], back: tuple[str, Back], undo: list[tuple[str, Back]]) -> Any:
    try:
        found = make()
    except BaseException:
        # It may be there all the same: its answer was lost, or nobody waited for it.
        with suppress(ProblemError):
            back[1]()
        raise
    undo.append(back)
    return found


def _take_back(undo: Sequence[tuple[str, Back]], told: Callable[[Said], None]) -> None:
    for what, back in reversed(undo):
        try:
            back()
        except ProblemError as problem:
            told(Said("poc.run.left", what=what, why=problem.said))


@contextmanager
def _told_to_end() -> Iterator[Callable[[], None]]:
    """Ends what is within as Ctrl-C does, also where the process is told to end or its terminal
    goes. The function given lets no further signal in: taking back is bounded by its requests."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # signals are the main thread's
        return

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    def no_more() -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    try:
        for number in _ENDING:
            signal.signal(number, end)
        yield no_more
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _project(client: Client, tenant: str) -> None:
    """Keys and budget need one; it stays, for the rows of the ledger name it."""
    rows = client.get("/directory")["projects"]
    if not any((row["tenant"], row["name"]) == (tenant, REPLAYS) for row in rows):
        client.post("/projects", {"tenant": tenant, "name": REPLAYS}, why=WHY)
