"""Keeps what is sampled, and works on cases for the admin API. A thin rim: what is kept and which
steps a case may take is decided in the pure modules.

Samples are best effort by design: an answer never waits for them, and what does not fit is dropped
and counted. What an administrator does is stored before it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from models.worded import Worded, of
from serving.errors import CallerError, OwnError
from serving.metrics import Counter
from serving.progress import Progress
from serving.recording import Recorder
from serving.records import Call, Surface
from serving.review import sampling
from serving.review.base import Overtaken, ReviewsAway, ReviewStore, Wanted
from serving.review.samples import found_in, sample_of
from serving.review.seal import Seal, SealFault
from serving.review.settings import ReviewSettings
from serving.review.values import Case, Text
from serving.stages import Client
from serving.watched import watch

TRIM_S = 3600.0
AGAIN_S = 5.0
"""After the store was away; what waits then fills the room it has, and no more."""
TRIES_MAX = 5
DAY_MS = 86_400_000
_SURFACES = frozenset({Surface.CHAT, Surface.COMPLETIONS})
_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Serve = Callable[[Client], Coroutine[Any, Any, Progress | None]]


class Reviews:
    """Owns the writing task, its thread, and the cases that wait."""

    def __init__(
        self,
        settings: ReviewSettings,
        seal: Seal | None,
        open_store: Callable[[], ReviewStore],
        utc_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._keeps = settings.keeps
        self._seal = seal
        self._open_store = open_store
        self._utc_ms = utc_ms
        self._store: ReviewStore | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-reviews")
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[Case, Text]] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._rates: dict[str, sampling.Rates] = {}
        self.counted = Counter("ballast_review_samples", "Conversations sampled", ("result",))
        self.on_death: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Write samples from now on."""
        if self._keeps:
            self._task = asyncio.create_task(self._run(), name="reviews")
            watch(self._task, lambda: self.on_death())

    async def close(self) -> None:
        """Store what waits, if the store is there, and release it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(ReviewsAway):
            while self._waiting:
                await self._write(self._waiting[0])
                self._taken()
        if self._waiting:
            self.counted.add(("dropped",), len(self._waiting))
            _log.error("reviews_dropped", extra={"count": len(self._waiting)})
        with contextlib.suppress(ReviewsAway):
            await self._ask(self._release)
        self._thread.shutdown()

    def may_keep(self, call: Call) -> bool:
        """Whether this call's answer must be recorded. Under a microsecond when it need not."""
        if not self._keeps or call.surface not in _SURFACES:
            return False
        return sampling.may_keep(self._rates_of(call.tenant), call.request_id)

    def _rates_of(self, tenant: str) -> sampling.Rates:
        found = self._rates.get(tenant)
        if found is None:
            if len(self._rates) >= 10_000:  # as many as a forwarder may name
                self._rates.clear()
            found = self._rates[tenant] = self._settings.rates(tenant)
        return found

    async def watched(self, call: Call, client: Client, serve: Serve) -> None:
        """Serve a call and keep it if its lot falls on it."""
        recorder = Recorder(client, self._settings.text_bytes_max)
        progress: Progress | None = None
        try:
            progress = await serve(recorder)
        finally:
            # A client that leaves cancels this: leaving early must not keep anybody from review.
            self._kept(call, progress, recorder)

    def _kept(self, call: Call, progress: Progress | None, recorder: Recorder) -> None:
        findings = () if progress is None else found_in(progress)
        why = sampling.why(self._rates_of(call.tenant), call.request_id, is_flagged=bool(findings))
        if not why and progress is not None:
            return
        case = sample_of(call, progress, findings, why or "unfinished")
        limit = self._settings.text_bytes_max
        text = Text(
            call.prompt[:limit], recorder.sent,
            is_cut=recorder.is_cut or len(call.prompt) > limit,
        )  # fmt: skip
        size = len(text.prompt) + len(text.answer)
        if self._bytes + size > self._settings.waiting_bytes_max:
            self.counted.add(("dropped",))
            return
        self._waiting.append((case, text))
        self._bytes += size
        self._news.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        trim_at_s, is_away = loop.time(), False
        while True:
            try:
                if loop.time() >= trim_at_s:
                    await self._trim()
                    trim_at_s = loop.time() + TRIM_S
                while self._waiting:
                    await self._write(self._waiting[0])
                    self._taken()
                is_away = False
            except ReviewsAway as error:
                if not is_away:
                    _log.error("reviews_away", extra={"reason": str(error)})
                is_away = True
                await asyncio.sleep(AGAIN_S)
                continue
            self._news.clear()
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the news.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(trim_at_s):
                    await self._news.wait()

    async def _trim(self) -> None:
        given = self._settings
        before_ms = self._utc_ms() - given.keep_days * DAY_MS
        await self._ask(lambda: self._opened().trim(before_ms, given.cases_max))

    async def _write(self, item: tuple[Case, Text]) -> None:
        case, text = item
        await self._ask(lambda: self._opened().add(case, self._sealed(case.id, text)))

    def _taken(self) -> None:
        _, text = self._waiting.popleft()
        self._bytes -= len(text.prompt) + len(text.answer)
        self.counted.add(("kept",))

    def _sealed(self, case_id: str, text: Text) -> bytes:
        if self._seal is None:
            message = Worded("review.no_seal", "no key to seal texts: set review.key_file")
            raise OwnError("reviews_away", message)
        return self._seal.close(case_id, text)

    # What the admin API does.

    async def listed(self, wanted: Wanted) -> list[Case]:
        """Cases, newest first. Raises ReviewsAway."""
        return await self._ask(lambda: self._opened().listed(wanted))

    async def find(self, case_id: str) -> Case:
        """One case's facts. Raises CallerError for one that is not there, ReviewsAway."""
        return (await self._found(case_id))[0]

    async def read(self, case_id: str) -> tuple[Case, Text]:
        """One case with its text. Raises as `find`, OwnError for a text that does not open."""
        case, sealed = await self._found(case_id)
        if self._seal is None:
            raise OwnError(
                "reviews_away",
                Worded("review.no_open", "no key to open texts: set review.key_file"),
            )
        try:
            return case, self._seal.open(case_id, sealed)
        except SealFault as fault:
            raise OwnError("reviews_away", of(fault)) from None

    async def _found(self, case_id: str) -> tuple[Case, bytes]:
        found = await self._ask(lambda: self._opened().find(case_id))
        if found is None:
            raise CallerError(
                "not_found",
                Worded("review.none", "there is no case {case_id}", case_id=repr(case_id[:80])),
            )
        return found

    async def add(self, case: Case, text: Text) -> None:
        """Store a complaint. Raises OwnError."""
        await self._ask(lambda: self._opened().add(case, self._sealed(case.id, text)))

    async def step(self, case_id: str, decide: Callable[[Case], Case]) -> Case:
        """Store a step, decided anew when another came first. Raises what `decide` raises."""
        for _ in range(TRIES_MAX):
            case = decide(await self.find(case_id))
            try:
                await self._ask(lambda new=case: self._opened().step(new))  # type: ignore[misc]
            except Overtaken:
                continue
            return case
        raise CallerError(
            "conflict", Worded("review.others", "others work on this case; look at it again")
        )

    async def erase(self, tenant: str, end_user: str) -> int:
        """Remove all cases of a person. Raises ReviewsAway."""
        return await self._ask(lambda: self._opened().erase(tenant, end_user))

    def _opened(self) -> ReviewStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _release(self) -> None:
        if self._store is not None:
            self._store.close()

    async def _ask(self, question: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)
