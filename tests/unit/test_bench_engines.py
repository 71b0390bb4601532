"""The comparison of servers before one engine: ratios, its verdict, and that no wave lies."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from benchmarks.engines import pinning, report, waves
from benchmarks.engines.__main__ import PAGE, fill, main
from benchmarks.engines.report import BARE, OURS, SERVE_LLM, EngineReport, Measured
from benchmarks.gateway.client import Target
from benchmarks.gateway.machine import Provenance
from serving.fakes.server import serve

ORIGIN = Provenance(
    "python -m benchmarks.engines run", "2026-11-26T14:10:00+00:00", "abc", False, "a CPU", 2,
    (0.1, 0.1, 0.1), "6.1", {"vllm": "0.32.0"},
)  # fmt: skip


def made(rates: dict[str, Sequence[float]]) -> EngineReport:
    """A report with these tokens a second, pair by pair."""
    found = [
        Measured(name, pair, rate, 100.0, 9.0, 1.0)
        for name, of_pairs in rates.items()
        for pair, rate in enumerate(of_pairs)
    ]
    return EngineReport(ORIGIN, 8, 128, found, {}, dict.fromkeys(rates, 60.0))


def test_a_ratio_is_of_the_same_pair_and_not_of_medians() -> None:
    found = report.ratios(made({OURS: (98, 49, 90), BARE: (100, 50, 90)}), OURS)
    assert found is not None
    assert (found.minimum, found.median, found.maximum) == (0.98, 0.98, 1.0)


def test_a_server_without_a_bare_pair_has_no_ratio() -> None:
    assert report.ratios(made({OURS: (98,)}), OURS) is None
    assert report.verdict(made({OURS: (98,)})) == "not measured"


@pytest.mark.parametrize(
    ("ours", "told"),
    [((99, 98, 97), "holds"), ((99, 98, 96), "holds, not in every pair"), ((96, 96, 99), "no")],
)
def test_the_median_decides_and_a_pair_below_is_said(ours: tuple[int, ...], told: str) -> None:
    assert report.verdict(made({OURS: ours, BARE: (100,) * 3})).partition(" (")[0] == told


def test_the_table_says_why_a_server_is_not_in_it() -> None:
    found = made({OURS: (98,), BARE: (100,)})
    text = report.markdown(msgspec.structs.replace(found, absent={SERVE_LLM: "no such import"}))
    assert "ray.serve.llm: not in the run: no such import" in text
    assert "| vllm serve | 100 (100 to 100) | 1 |" in text
    assert "98.0" not in text.partition("Gate")[0]


def test_fill_writes_between_its_own_markers_of_the_page(tmp_path: Path) -> None:
    page, run = tmp_path / "page.md", tmp_path / "run.json"
    page.write_text(PAGE.read_text("utf-8"), "utf-8")
    run.write_bytes(msgspec.json.encode(made({OURS: (98,), BARE: (100,)})))
    assert fill([str(run), "--page", str(page)]) == 0
    assert "| ballast | 98 (98 to 98) | 0.98 (0.98 to 0.98) |" in page.read_text("utf-8")
    assert main([]) == 2


def asked(events: list[Any], status: int = 200) -> waves.Wave:
    """A wave of two streams of two tokens against a server that answers with these events."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert (body["max_tokens"], body["ignore_eos"]) == (2, True)
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        return web.Response(text="".join([*lines, "data: [DONE]\n\n"]), status=status)

    async def go() -> waves.Wave:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        served = await serve(app, "127.0.0.1", 0)
        try:
            return await waves.wave(Target(served.url, "k", "m"), 2, 2, 7)
        finally:
            await served.close()

    return asyncio.run(go())


CONTENT = {"choices": [{"delta": {"content": "a"}}]}
USAGE = {"choices": [], "usage": {"completion_tokens": 2}}


def test_a_wave_counts_what_was_asked_and_told() -> None:
    found = asked([CONTENT, CONTENT, USAGE])
    assert (found.tokens, found.first_ms > 0, found.tokens_s > 0) == (4, True, True)


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([CONTENT, {"choices": [], "usage": {"completion_tokens": 1}}], 200),
        ([CONTENT], 200),
        ([USAGE], 200),
        ([CONTENT, {"error": {"message": "dead"}}], 200),
        ([], 503),
    ],
    ids=["short", "no usage", "no content", "error", "refused"],
)
def test_a_wave_that_is_not_whole_is_no_figure(events: list[Any], status: int) -> None:
    with pytest.raises(waves.NotWhole):
        asked(events, status)


def test_threads_of_an_engine_and_of_others_go_to_their_cores() -> None:
    try:
        pinning.check()
    except pinning.TooFewCores as few:
        pytest.skip(str(few))
    program = "import sys; sys.stdin.read()"
    one = [sys.executable, "-c", program]
    with subprocess.Popen(one, stdin=subprocess.PIPE) as other:
        assert pinning.pin(other.pid) == 0
        assert os.sched_getaffinity(other.pid) == {pinning.OTHER_CORE}
        other.communicate()
    with subprocess.Popen(["VLLM::EngineCore", *one[1:]], executable=one[0],
                          stdin=subprocess.PIPE) as engine:  # fmt: skip
        assert pinning.pin(engine.pid) == 1
        assert os.sched_getaffinity(engine.pid) == {pinning.ENGINE_CORE}
        engine.communicate()
