"""The gateway benchmark: honest framing, honest verdicts, sane figures. Nothing is timed."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from benchmarks.gateway import __main__ as cli
from benchmarks.gateway import processes, report
from benchmarks.gateway.arrivals import Arrivals, arrive
from benchmarks.gateway.check import SlowStreams, fault_of, slow_streams
from benchmarks.gateway.client import Broken, Client, Target, connect, request, unchunked
from benchmarks.gateway.contenders import direct, upstream
from benchmarks.gateway.load import Plan, load
from benchmarks.gateway.processes import StartFailed
from benchmarks.gateway.prompts import KIB, prompt
from benchmarks.gateway.script import Pace, Script, marked
from benchmarks.gateway.upstream import Upstream, take

TOKENS = 3
GOOD = b"".join(
    [
        *(
            b'data: {"id":"s1","choices":[{"delta":{"content":" tok%d"},"finish_reason":null}]}\n\n'
            % i
            for i in range(TOKENS)
        ),
        b'data: {"id":"s1","choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ]
)
EVENTS = GOOD.split(b"\n\n")


def joined(*events: bytes) -> bytes:
    return b"".join(event + b"\n\n" for event in events)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (GOOD, ""),
        (joined(*EVENTS[:1], *EVENTS[2:5]), "lost"),
        (joined(EVENTS[1], EVENTS[0], *EVENTS[2:5]), "reordered or doubled"),
        (joined(EVENTS[0], *EVENTS[:5]), "reordered or doubled"),
        (joined(*EVENTS[:3], EVENTS[4]), "lost"),
        (joined(*EVENTS[:4]), "cut"),
        (joined(*EVENTS[:2], b"data: {", *EVENTS[3:5]), "cut"),
        (joined(EVENTS[0].replace(b"s1", b"s2"), *EVENTS[1:5]), "mixed"),
        (b"", "cut"),
    ],
    ids=["good", "lost", "swapped", "doubled", "no finish", "no end", "torn", "mixed", "empty"],
)
def test_the_verdict_on_a_stream_names_its_fault(body, fault):
    assert fault_of(body, TOKENS)[1].partition(":")[0] == fault


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3\r\nabc\r\n", None),
        (b"5\r\n0\r\n\r\n\r\n", None),
        (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    ],
    ids=["whole", "unended", "looks ended", "holds an end"],
)
def test_chunks_are_read_by_their_length_alone(data, body):
    assert unchunked(data) == body


@pytest.mark.parametrize(
    "data", [b"x\r\n", b"1\r\nabc\r\n", b"0\r\n\r\n0\r\n\r\n"], ids=["size", "length", "more"]
)
def test_bad_chunks_are_refused_not_guessed(data):
    with pytest.raises(ValueError):
        unchunked(data)


def test_the_upstream_takes_requests_one_by_one():
    asked = request(Target("http://127.0.0.1:1", "k", "m"), is_stream=True)
    assert take(asked[:-1]) is None
    line, body, rest = take(asked * 2)
    assert line == b"POST /v1/chat/completions HTTP/1.1"
    assert json.loads(body)["stream"] is True
    assert rest == asked


async def _on_upstream(pace, work):
    loop = asyncio.get_running_loop()
    script = Script(pace)
    server = await loop.create_server(lambda: Upstream(script), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        return await work(direct(f"http://{host}:{port}"))
    finally:
        server.close()


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
def test_a_load_counts_what_the_upstream_sent(is_stream):
    plan = Plan(concurrency=2, seconds=10.0, requests_max=7, is_stream=is_stream)
    loaded = asyncio.run(_on_upstream(Pace(TOKENS, 0.0), lambda target: load(target, plan)))
    assert (loaded.requests, loaded.failures) == (7, 0)
    assert loaded.events == (7 * (TOKENS + 2) if is_stream else 0)
    assert 0.0 < loaded.head_p50_ms <= loaded.first_p50_ms <= loaded.p50_ms <= loaded.p99_ms


def test_a_load_reports_failures_and_goes_on():
    loaded = asyncio.run(load(Target("http://127.0.0.1:1", "k", "m"), Plan(1, 10.0, 3)))
    assert (loaded.requests, loaded.failures) == (0, 3)
    assert len(loaded.errors) == 3


def test_paced_streams_pass_the_check():
    async def work(target):
        return await slow_streams(target, SlowStreams(5, TOKENS, 0.01))

    checked = asyncio.run(_on_upstream(Pace(TOKENS, 10.0), work))
    assert (checked.complete, checked.faults, checked.first_fault) == (5, 0, "")
    assert checked.events == 5 * (TOKENS + 2)


def test_a_stream_of_another_length_fails_the_check():
    async def work(target):
        return await slow_streams(target, SlowStreams(2, TOKENS + 1, 0.01))

    checked = asyncio.run(_on_upstream(Pace(TOKENS, 1.0), work))
    assert checked.kinds == {"lost": 2}


def test_an_answer_that_is_not_http_is_an_error():
    async def work():
        loop = asyncio.get_running_loop()

        class Rude(asyncio.Protocol):
            def connection_made(self, transport):
                transport.write(b"SSH-2.0\r\n\r\n")
                transport.close()

        server = await loop.create_server(Rude, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        target = Target(f"http://127.0.0.1:{port}", "k", "m")
        client: Client = await connect(target)
        try:
            await client.ask(request(target, is_stream=False))
        finally:
            client.close()
            server.close()

    with pytest.raises(Broken):
        asyncio.run(work())


def test_an_open_load_sends_all_when_due_and_sees_each_first_byte():
    async def work(target):
        data = request(target, is_stream=True)
        return await arrive(target, Arrivals(rate=500.0, seconds=0.02), data)

    seen = asyncio.run(_on_upstream(Pace(TOKENS, 0.0), work))
    assert (seen.requests, seen.failures, seen.events) == (10, 0, 10 * (TOKENS + 2))
    assert 0.0 < seen.sent_p50_ms <= seen.sent_p99_ms
    assert seen.p50_ms > 0.0


def test_an_open_load_names_why_requests_failed():
    seen = asyncio.run(arrive(Target("http://127.0.0.1:1", "k", "m"), Arrivals(100.0, 0.04), b""))
    assert (seen.requests, seen.failures, len(seen.errors)) == (0, 4, 3)


@pytest.mark.parametrize("size", [4 * KIB, 90 * KIB, 100])
def test_a_prompt_has_its_size_and_says_its_pace(size):
    text = prompt(size, Pace(7, 20.0))
    assert len(text.encode()) == size
    assert marked(text.encode()) == Pace(7, 20.0)
    assert marked(prompt(size).encode()) is None


def test_the_upstream_keeps_the_pace_that_a_prompt_asks_for():
    async def work(target):
        asks = prompt(200, Pace(TOKENS + 2, 5.0))
        return await slow_streams(target, SlowStreams(2, TOKENS + 2, 0.005, prompt=asks))

    checked = asyncio.run(_on_upstream(Pace(TOKENS, 0.0), work))
    assert (checked.complete, checked.first_fault) == (2, "")


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match="no markers"):
        report.filled("# page", "peers", "text")


def test_the_cpu_of_a_tree_grows_and_is_split():
    before = processes.cpu(os.getpid())
    sum(range(3_000_000))
    used = processes.cpu(os.getpid()).since(before)
    assert used.total_s >= 0.0
    assert used.main_s <= used.total_s + 0.011
    assert os.getpid() in processes.tree(os.getppid())


def test_a_process_that_dies_at_start_tells_its_log(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    started = processes.start(command, tmp_path / "log", tmp_path)
    with pytest.raises(StartFailed, match="no such luck"):
        started.line()
    started.stop()


def test_processes_end_with_their_block(tmp_path):
    before = set(processes.tree(os.getpid()))
    with upstream(Pace(1, 0.0), tmp_path, 3) as urls:
        assert len(set(urls)) == 3
        assert all(url.startswith("http://127.0.0.1:") for url in urls)
        started = set(processes.tree(os.getpid())) - before
        assert len(started) == 1
    assert not started & set(processes.tree(os.getpid()))


def test_an_unknown_command_shows_what_there_is(capsys):
    assert cli.main(["nonsense"]) == 2
    assert "upstream" in capsys.readouterr().err
    assert cli.main(["--help"]) == 0
