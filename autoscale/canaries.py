"""Asks the canaries' prompts of every target of every model, one after the other, once in a while.

The calls go through the gateway like anybody's: they are billed, bound by residency and limits, and
pinned to one target each. What came back is compared with the baseline by `quality.drift`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from models.worded import Worded
from serving.quality.base import Found, QualityAway, QualityStore
from serving.quality.drift import BASELINE_RUNS, drifts
from serving.quality.reading import run_of
from serving.quality.settings import CanarySettings
from serving.quality.values import Prompt, Run, Sign
from serving.records import OWN
from serving.settings import Settings, SettingsError

ANSWER_BYTES_MAX = 1 << 20
DAY_MS = 86_400_000
_log = logging.getLogger("autoscale.canaries")


class Target(NamedTuple):
    """One model at one place."""

    model: str
    target: str


def targets(settings: Settings) -> tuple[Target, ...]:
    """Everything to ask: each chatting model on our own engines and at each of its offerings."""
    wanted = settings.canaries.models
    return tuple(
        Target(model.name, target)
        for model in settings.models
        if "chat" in model.surfaces and (not wanted or model.name in wanted)
        for target in (OWN, *model.offerings)
    )


def baselined(run: Run, earlier: Iterable[Run]) -> Run:
    """The run, part of the baseline while that has too few of its prompt. Pure."""
    had = sum(r.is_baseline for r in earlier if r.prompt == run.prompt)
    return msgspec.structs.replace(run, is_baseline=run.is_answered and had < BASELINE_RUNS)


class Canaries:
    """Asks, stores, concludes, and counts."""

    def __init__(
        self,
        settings: Settings,
        prompts: tuple[Prompt, ...],
        open_store: Callable[[], QualityStore],
        utc_ms: Callable[[], int],
        registry: CollectorRegistry,
    ) -> None:
        self._settings: CanarySettings = settings.canaries
        own = settings.gateway
        self._url = f"{own.url(own.port)}/v1/chat/completions"
        self._targets = targets(settings)
        self._prompts = prompts
        self._open_store = open_store
        self._utc_ms = utc_ms
        names = ["model", "target"]
        self._runs = Counter("ballast_canary_runs", "Canaries asked, by what came back",
                             [*names, "result"], registry=registry)  # fmt: skip
        self._valid = Gauge("ballast_canary_valid_ratio", "Valid answers of the last round",
                            names, registry=registry)  # fmt: skip
        self._drift = Gauge("ballast_canary_drift", "1 where a target's answers have changed",
                            [*names, "sign"], registry=registry)  # fmt: skip

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Ask until cancelled."""
        store: QualityStore | None = None
        while True:
            try:
                if store is None:
                    store = await asyncio.to_thread(self._open_store)
                await self.once(session, store)
            except QualityAway as error:
                _log.warning("quality_away", extra={"reason": str(error)})
            await asyncio.sleep(self._settings.every_s)

    async def once(self, session: aiohttp.ClientSession, store: QualityStore) -> None:
        """One round. Raises QualityAway."""
        for target in self._targets:
            earlier = await asyncio.to_thread(store.runs, *target)
            for prompt in self._prompts:
                run = baselined(await self._ask(session, target, prompt), earlier)
                earlier.append(run)
                result = "no_answer" if not run.is_answered else "valid" if run.is_valid else "bad"
                self._runs.labels(*target, result).inc()
                await asyncio.to_thread(store.add, [run])
            await self._conclude(store, target, earlier)
        before_ms = self._utc_ms() - self._settings.keep_days * DAY_MS
        await asyncio.to_thread(store.trim, before_ms)

    async def _conclude(self, store: QualityStore, target: Target, runs: list[Run]) -> None:
        latest = [run for run in runs[-len(self._prompts) :] if run.is_answered]
        if latest:
            share = sum(run.is_valid for run in latest) / len(latest)
            self._valid.labels(*target).set(share)
        found = drifts(runs)
        signs = {one.sign for one in found}
        for sign in Sign:
            self._drift.labels(*target, sign).set(sign in signs)
        for one in found:
            _log.warning("canary_drift", extra=msgspec.to_builtins(one))
        await asyncio.to_thread(store.conclude, Found(*target, self._utc_ms(), found))

    async def _ask(self, session: aiohttp.ClientSession, target: Target, prompt: Prompt) -> Run:
        body: dict[str, Any] = {
            "model": target.model, "messages": prompt.messages, "temperature": 0,
            "max_tokens": prompt.max_tokens, **prompt.more,
        }  # fmt: skip
        headers = {"authorization": f"Bearer {key(self._settings)}", "x-ballast-pin": target.target}
        at_ms = self._utc_ms()
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
        try:
            async with session.post(
                self._url, json=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                data = await response.content.read(ANSWER_BYTES_MAX)
                while len(data) < ANSWER_BYTES_MAX and (more := await response.content.readany()):
                    data += more
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Run(at_ms, *target, prompt.id, False, why=type(error).__name__)
        if status != 200:
            return Run(at_ms, *target, prompt.id, False, why=f"status {status}")
        return run_of(prompt, (at_ms, *target), data)


def key(settings: CanarySettings) -> str:
    """The API key, read anew each time so that a rotated one is found. Raises SettingsError."""
    path = settings.key_file
    assert path is not None
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII"
        template, where = "{key}: cannot read {path}: {why}", "canaries.key_file"
        said = Worded("settings.file_read", template, key=where, path=path, why=reason)
        raise SettingsError(said) from None
