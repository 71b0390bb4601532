"""A gateway whose ledger, fleet or drainer is not well: it serves, it says so, or it ends."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sqlite3
from pathlib import Path

from serving.app import Gateway
from serving.ledger.sqlite import SqliteLedger
from serving.settings import EXIT_CODE, Settings


def _lost(path: Path) -> None:
    for name in path.parent.glob("ledger.sqlite*"):
        name.unlink()


def _damaged(path: Path) -> None:
    _lost(path)
    path.write_bytes(b"not a database, not at all" * 100)


async def _failing(live) -> bool:
    return b"ballast_ledger_failing 1.0" in (await live.get("/metrics")).body


def test_a_gateway_serves_while_its_ledger_is_damaged_and_catches_up(run_live, kit):
    async def check(live, stack, tree) -> None:
        path: Path = live.state / "ledger.sqlite"
        await live.start(tree)
        await live.ready()
        async with live.streaming("never", max_tokens=500) as first:
            await first.content.readany()
            await live.kill()
        _damaged(path)
        await live.start(tree)
        await live.ready()
        assert (await live.chat("never")).status == 200
        await kit.eventually(lambda: _failing(live))
        assert (await live.get("/readyz")).status == 200
        _lost(path)
        rows = await live.rows(2)
        assert sorted(row.outcome for row in rows) == ["gateway_lost", "ok"]
        assert not await _failing(live)
        log = (live.state / "stderr.log").read_text()
        assert log.count('"recovery_postponed"') == log.count('"ledger_unavailable"') == 1

    run_live(check, engines=[kit.engine(**kit.SLOW, output_tokens=500)])


def test_a_gateway_serves_while_its_ledger_is_locked_from_the_start(run_live, kit):
    async def check(live, stack, tree) -> None:
        path: Path = live.state / "ledger.sqlite"
        SqliteLedger.open(path).close()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await live.start(tree)
            await live.ready()
            assert (await live.chat("never")).status == 200
            await kit.eventually(lambda: _failing(live))
            other.execute("ROLLBACK")
        await live.rows(1)

    run_live(check, engines=[kit.engine()])


def test_a_ledger_of_a_newer_version_refuses_to_start_by_name(run_live, kit):
    async def check(live, stack, tree) -> None:
        with contextlib.closing(sqlite3.connect(live.state / "ledger.sqlite")) as db:
            db.execute("PRAGMA user_version = 99")
        with contextlib.suppress(AssertionError):
            await live.start(tree)
        assert await live.process.wait() == EXIT_CODE
        said = (live.state / "stderr.log").read_text()
        assert "schema version 99" in said
        assert "Traceback" not in said

    run_live(check)


def test_a_gateway_without_its_fleet_ends_and_says_so_by_its_exit_code(tmp_path, kit):
    async def main() -> int:
        kit.write_files(tmp_path, [])
        gateway = Gateway(Settings.model_validate(kit.tree_of(tmp_path, [], {}, {})))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            running = asyncio.ensure_future(gateway.run(asyncio.Event()))
            await kit.eventually(lambda: said.getvalue())
        gateway._fleet.on_death()
        return await running

    assert asyncio.run(main()) == 1


def test_a_draining_gateway_is_not_ready_and_says_why(run, kit):
    async def check(stack) -> None:
        async with stack.streaming("never", max_tokens=200) as answer:
            await answer.content.readany()
            stack._stop.set()

            async def is_draining() -> bool:
                ready = await stack.get("/readyz")
                said = {"status": "draining", "reasons": ["draining"]}
                return ready.status == 503 and ready.json == said

            await kit.eventually(is_draining)
            data = await answer.content.read()
            assert data.endswith(b"data: [DONE]\n\n")

    run(check, engines=[kit.engine(**kit.SLOW, output_tokens=200)])


def test_what_the_wire_refuses_is_counted(run, kit):
    async def check(stack) -> None:
        host, port = stack.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        text = (await stack.get("/metrics")).body
        assert b'ballast_unparsed_requests_total{code="invalid_request"} 1.0' in text
        assert b"ballast_log_lines_dropped 0.0" in text
        assert b"ballast_journal_corrupt_segments 0.0" in text

    run(check)


def test_connections_to_an_engine_that_left_are_closed(run, kit):
    async def check(stack) -> None:
        assert (await stack.chat("never")).status == 200
        pool = stack.gateway._pool
        assert pool._idle
        await stack.engines[0].close()
        await stack.ready(0)
        assert not pool._idle

    run(check, engines=[kit.engine()])


class _Freezing:
    """What stands before an engine that works until it is frozen: then it takes all and says
    nothing."""

    def __init__(self, kit) -> None:
        frozen = self.frozen = asyncio.Event()
        self.asked = asyncio.Event()
        asked = self.asked

        class Host(kit.Recording):
            async def _load(self, request):
                if frozen.is_set():
                    await asyncio.Event().wait()
                return await super()._load(request)

            async def _answer(self, request):
                asked.set()
                await asyncio.Event().wait()

        self.host = Host()


def test_calls_on_a_host_that_froze_are_answered_elsewhere_long_before_their_deadline(run, kit):
    freezing = _Freezing(kit)

    async def check(stack) -> None:
        before = asyncio.create_task(stack.chat(stream=True))
        await asyncio.wait_for(freezing.asked.wait(), 5.0)
        freezing.frozen.set()
        reply = await asyncio.wait_for(before, 20.0)
        assert reply.status == 200, reply.body
        assert reply.headers["x-ballast-target"] == "api;alpha/big"
        (request,) = await stack.rows(1)
        first, second = stack.attempts(request.request_id)
        assert (first.end.outcome, first.end.error) == ("upstream_error", "connect")
        assert second.end.outcome == "ok"

    run(
        check, engines=[freezing.host], providers={"alpha": kit.provider()},
        **{"fleet.poll_s": 0.02, "fleet.poll_timeout_s": 0.05},
    )  # fmt: skip
