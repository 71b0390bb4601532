"""Gateways with PostgreSQL behind: it restarts, is away, is shared, is newer; no call notices, and
no row is lost or written twice."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import signal

import psycopg
import pytest

from serving.settings import EXIT_CODE

pytestmark = pytest.mark.server


async def _failing(live) -> bool:
    return b"ballast_ledger_failing 1.0" in (await live.get("/metrics")).body


async def _is_well(live) -> bool:
    return not await _failing(live)


async def _settled(live, kit, sent: set[str]) -> None:
    """Wait for as many rows as calls; then they are those calls', and the law holds."""

    def all_there() -> bool:
        with live.ledger() as ledger:
            return len(ledger.requests(100_000)) >= len(sent)

    await kit.eventually(all_there)
    with live.ledger() as ledger:
        rows = ledger.requests(100_000)
        assert sorted(row.request_id for row in rows) == sorted(sent)
        assert ledger.law() == []
        assert ledger.open_attempts() == []
        assert sum(total.attempts for total in ledger.totals()) == len(sent)


def test_a_database_that_dies_twice_in_mid_traffic_costs_no_call_and_no_row(
    run_live, kit, postgres, new_database
):
    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        sent: set[str] = set()
        is_over = asyncio.Event()

        async def client() -> None:
            while not is_over.is_set():
                reply = await live.chat("never", max_tokens=1)
                assert reply.status == 200, reply.body
                request_id = reply.headers["x-request-id"]
                assert request_id not in sent
                sent.add(request_id)

        async def more(count: int) -> None:
            until = len(sent) + count
            await kit.eventually(lambda: len(sent) >= until)

        async with asyncio.TaskGroup() as clients:
            for _ in range(4):
                clients.create_task(client())
            for how in (signal.SIGQUIT, signal.SIGINT):
                await more(50)
                postgres.stop(how)
                await kit.eventually(lambda: _failing(live))
                await more(50)
                assert (await live.get("/readyz")).status == 200
                postgres.start()
                await kit.eventually(lambda: _is_well(live))
            await more(50)
            is_over.set()
        await _settled(live, kit, sent)
        log = (live.state / "stderr.log").read_text()
        assert log.count('"ledger_unavailable"') == log.count('"ledger_available"') == 2

    run_live(check, engines=[kit.engine(profile="instant")], **{"ledger.url": new_database()})


def test_a_gateway_starts_without_its_database_and_fills_it_when_it_comes(
    run_live, kit, postgres, new_database
):
    async def check(live, stack, tree) -> None:
        postgres.stop()
        try:
            await live.start(tree)
            await live.ready()
            replies = [await live.chat("never") for _ in range(3)]
            assert [reply.status for reply in replies] == [200] * 3
            await live.kill()
            await live.start(tree)
            await live.ready()
            replies += [await live.chat("never")]
        finally:
            postgres.start()
        await _settled(live, kit, {reply.headers["x-request-id"] for reply in replies})

    run_live(check, engines=[kit.engine()], **{"ledger.url": new_database()})


@pytest.mark.full
def test_a_gateway_told_to_stop_waits_a_while_for_its_database(
    run_live, kit, postgres, new_database
):
    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        postgres.stop()
        try:
            reply = await live.chat("never")
            await kit.eventually(lambda: _failing(live))
            live.process.send_signal(signal.SIGTERM)
            log = live.state / "stderr.log"
            await kit.eventually(lambda: '"draining"' in log.read_text())
        finally:
            postgres.start()
        assert await live.process.wait() == 0
        assert not list((live.state / "journal" / "0").glob("*.log"))[1:]
        await _settled(live, kit, {reply.headers["x-request-id"]})

    more = {"ledger.url": new_database(), "ledger.exit_wait_s": 30.0}
    run_live(check, engines=[kit.engine()], **more)


@pytest.mark.full
def test_gateways_of_two_machines_share_one_ledger_and_die_apart(
    run_live, kit, tmp_path, new_database
):
    async def check(live, stack, tree) -> None:
        other = type(live)(tmp_path / "other")
        kit.write_files(other.state, [])
        other.session = live.session
        other_tree = copy.deepcopy(tree)
        other_tree["state_dir"] = str(other.state)
        try:
            await asyncio.gather(live.start(tree), other.start(other_tree))
            await asyncio.gather(live.ready(), other.ready())

            def one_is_lost() -> bool:
                with other.ledger() as ledger:
                    return [row.outcome for row in ledger.requests(9)] == ["gateway_lost"]

            async with (
                live.streaming("never", max_tokens=500) as one,
                other.streaming("never", max_tokens=500) as two,
            ):
                await asyncio.gather(one.content.readany(), two.content.readany())
                await live.kill()
                await live.start(tree)  # settles its own call, not its living neighbour's
                await kit.eventually(one_is_lost)
                with other.ledger() as ledger:
                    assert len(ledger.open_attempts()) == 1
                await other.kill()
            await other.start(other_tree)
            rows = await other.rows(2)
            assert [row.outcome for row in rows] == ["gateway_lost"] * 2
        finally:
            await other.kill()

    slow = kit.engine(**kit.SLOW, output_tokens=500)
    run_live(check, engines=[slow], **{"ledger.url": new_database()})


@pytest.mark.parametrize("fault", ["newer", "password_file", "url"])
def test_what_waiting_cannot_mend_refuses_to_start_by_name(run_live, kit, new_database, fault):
    async def check(live, stack, tree) -> None:
        said = {
            "newer": "schema version 99",
            "password_file": "ledger.password_file",
            "url": "ledger.url",
        }[fault]
        live.tree = copy.deepcopy(tree)
        with live.ledger() as ledger:
            ledger.law()
        if fault == "newer":
            with psycopg.connect(tree["ledger"]["url"]) as db:
                db.execute("INSERT INTO schema_versions VALUES (99, 99)")
        elif fault == "password_file":
            tree["ledger"]["password_file"] = str(live.state / "missing")
        else:
            tree["ledger"]["url"] = "postgresql://u:secret-word@h/d"
        with contextlib.suppress(AssertionError):
            await live.start(tree)
        assert await live.process.wait() == EXIT_CODE
        log = (live.state / "stderr.log").read_text()
        assert said in log
        assert "Traceback" not in log
        assert "secret-word" not in log

    run_live(check, **{"ledger.url": new_database()})
