"""One connection to PostgreSQL: made when first needed, bounded in time, made again when it broke.

Every piece of work is one transaction that may be run twice, so what failed by no fault of its own
(a conflict with another writer, a connection that died since it was last used) is tried again at
once. What cannot be reached is left alone for a while: a dead server costs a caller nothing, and
a returning one is not stormed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import IsolationLevel

from serving.ledger.address import Address
from serving.ledger.base import LedgerUnavailable

TRIES = 4
"""Of one piece of work, all in all."""
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.5, 5.0
"""Short: what waits here is held in a journal on a disk that may go with the pod."""
_SAID_MAX = 300
_SESSION = (
    "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),"
    " set_config('idle_in_transaction_session_timeout', %s, true),"
    " set_config('synchronous_commit', 'on', true)"
)
"""Set in each transaction, not in the session, which a pooler may share with strangers. A commit
must be on the disk: the journal's segment is deleted after it."""
_T = TypeVar("_T")


class Limits(NamedTuple):
    """Longest waits, seconds."""

    statement_s: float
    lock_s: float
    call_s: float
    """For a whole transaction, also with a server that does not answer at all."""


class Fault(Enum):
    """What an error says about trying again."""

    CONFLICT = "conflict"
    """With another transaction; nothing else is wrong."""
    LOST = "lost"
    """The connection is of no more use."""
    REFUSED = "refused"


def judged(sqlstate: str | None) -> Fault:
    """The fault behind an error's SQLSTATE; without one the server did not even answer. Pure."""
    if sqlstate in ("40001", "40P01"):
        return Fault.CONFLICT
    # Shut down, in recovery, or no longer the primary.
    if sqlstate is None or sqlstate[:2] == "08" or sqlstate[:3] == "57P" or sqlstate == "25006":
        return Fault.LOST
    return Fault.REFUSED


class Link:
    """Thread-safe: one piece of work at a time."""

    def __init__(
        self,
        address: Address,
        limits: Limits,
        prepare: Callable[[psycopg.Connection[Any]], None],
        is_read_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._limits = limits
        self._prepare = prepare
        self._is_read_only = is_read_only
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()
        self._failures = 0
        self._not_before_s = 0.0
        self._why = ""

    def run(self, work: Callable[[psycopg.Cursor[Any]], _T]) -> _T:
        """The work's result, in one transaction. Raises LedgerUnavailable: then nothing was stored,
        or it is not known whether it was."""
        with self._lock:
            for left in reversed(range(TRIES)):
                is_fresh = self._connection is None
                connection = self._connection or self._open()
                try:
                    return self._once(connection, work)
                except psycopg.Error as error:
                    fault = judged(error.sqlstate)
                    if fault is Fault.LOST or connection.closed:
                        self._drop()
                        fault = Fault.LOST
                    may_again = fault is Fault.CONFLICT or (fault is Fault.LOST and not is_fresh)
                    if not left or not may_again:
                        raise self._unavailable(_said(error)) from error
            raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Hang up; the next piece of work would connect again."""
        with self._lock:
            self._drop()

    def _once(
        self, connection: psycopg.Connection[Any], work: Callable[[psycopg.Cursor[Any]], _T]
    ) -> _T:
        limits = (self._limits.statement_s, self._limits.lock_s, self._limits.call_s)
        with (
            _hung_up_after(connection, self._limits.call_s),
            connection.transaction(),
            connection.cursor() as cursor,
        ):
            cursor.execute(_SESSION, [f"{round(limit * 1000)}ms" for limit in limits])
            return work(cursor)

    def _open(self) -> psycopg.Connection[Any]:
        wait_s = self._not_before_s - self._clock()
        if wait_s > 0:
            raise self._unavailable(f"{self._why}; tried again in {wait_s:.1f} s")
        try:
            connection = self._address.connect()
        except (psycopg.Error, OSError, UnicodeDecodeError) as error:
            self._failed(_said(error))
            raise self._unavailable(self._why) from error
        try:
            connection.isolation_level = IsolationLevel.READ_COMMITTED
            connection.read_only = self._is_read_only
            with _hung_up_after(connection, self._limits.call_s):
                self._prepare(connection)
        except psycopg.Error as error:
            connection.close()
            self._failed(_said(error))
            raise self._unavailable(self._why) from error
        except BaseException as error:
            connection.close()
            self._failed(str(error))
            raise
        self._failures = 0
        self._connection = connection
        return connection

    def _failed(self, why: str) -> None:
        delay_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._not_before_s = self._clock() + delay_s
        self._why = why

    def _unavailable(self, why: str) -> LedgerUnavailable:
        return LedgerUnavailable(f"the ledger at {self._address.name} is unavailable: {why}")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _said(error: Exception) -> str:
    """The error's first words, without the details that may repeat a row."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        text = f"{error.diag.message_primary} ({error.sqlstate})"
    elif isinstance(error, OSError):
        text = f"password file: {error.strerror}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())[:_SAID_MAX]


@contextlib.contextmanager
def _hung_up_after(connection: psycopg.Connection[Any], limit_s: float) -> Iterator[None]:
    """Cut the connection from outside if the block takes longer: a server that is stopped, or
    behind a network that swallows everything, keeps no time limit of its own."""
    guard = threading.Lock()
    is_over = False

    def hang_up() -> None:
        with guard:
            if not is_over:
                _shut(connection)

    timer = threading.Timer(limit_s, hang_up)
    timer.name, timer.daemon = "ballast-ledger-watchdog", True
    timer.start()
    try:
        yield
    finally:
        with guard:
            is_over = True
        timer.cancel()


def _shut(connection: psycopg.Connection[Any]) -> None:
    """End its socket below it: whoever waits for an answer learns that there is none."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
