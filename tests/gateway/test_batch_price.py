"""Lines of batches at a provider's batch price, against fakes of both its ways."""

from __future__ import annotations

import contextlib
import copy
import json
import sqlite3
from typing import Any

import pytest
from openai import AsyncOpenAI

from serving.batch.store import FILE

QUICK = {"tick_s": 0.05, "claim_s": 0.2, "lease_s": 3.0, "away_hold_s": 0.05}
BATCH = {
    "discount": "0.5", "window_h": 24, "source": "test", "as_of": "2026-01-01",
    "by_call": {
        "models": ["big"], "set_fields": {"service_tier": "flex"}, "wait_s": 900,
        "source": "test", "as_of": "2026-01-01",
    },
}  # fmt: skip
MODELS = [
    {"name": "m", "profile": "instant"},
    {"name": "api", "offerings": ["alpha/big", "alpha-batch/big"]},
]


def client(at, kit, key: str = "main") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{at.url}/v1", api_key=kit.key_of(key), max_retries=0)


async def made(asked: AsyncOpenAI, count: int, model: str = "api") -> Any:
    body = {"model": model, "max_tokens": 4}
    rows = [
        {"custom_id": f"q{n}", "method": "POST", "url": "/v1/chat/completions",
         "body": body | {"messages": [{"role": "user", "content": f"q{n}"}]}}
        for n in range(count)
    ]  # fmt: skip
    data = "\n".join(map(json.dumps, rows)).encode()
    file = await asked.files.create(file=("in.jsonl", data), purpose="batch")
    return await asked.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


async def completed(asked: AsyncOpenAI, kit, batch: Any, within_s: float = 20.0) -> list[Any]:
    async def is_over() -> bool:
        return (await asked.batches.retrieve(batch.id)).status == "completed"

    await kit.eventually(is_over, within_s)
    done = await asked.batches.retrieve(batch.id)
    assert done.error_file_id is None
    content = await asked.files.content(done.output_file_id)
    return [json.loads(one) for one in content.text.splitlines()]


def sold(stack, tree: dict[str, Any]) -> dict[str, Any]:
    """The same settings with the batch price of `alpha` switched on, at a fake of its own."""
    path = stack.state / "providers" / "alpha.yaml"
    path.write_text(path.read_text() + json.dumps({"batch": BATCH})[1:-1] + "\n")
    tree = copy.deepcopy(tree)
    for access in tree["providers"]:
        if access["id"] == "cheap":
            access["id"] = "alpha-batch"
    tree["models"] = MODELS
    return tree


def fakes(kit, **cheap: Any) -> dict[str, Any]:
    return {"alpha": kit.provider(), "cheap": kit.provider(**cheap)}


def test_lines_go_at_the_batch_price_and_people_s_calls_do_not(run, kit):
    async def check(stack) -> None:
        await stack.stop()
        await stack.restart(sold(stack, stack.tree))
        assert (await stack.chat(model="api", max_tokens=4)).status == 200
        async with client(stack, kit) as asked:
            found = await completed(asked, kit, await made(asked, 5))
        assert [one["custom_id"] for one in found] == [f"q{n}" for n in range(5)]
        assert len(await stack.seen("alpha")) == 1
        seen = await stack.seen("cheap")
        assert [one["body"]["service_tier"] for one in seen] == ["flex"] * 5
        rows = await stack.rows(6)
        spent = {"": set(), "batch": set()}
        for row in rows:
            (attempt,) = stack.attempts(row.request_id)
            charge, usage = attempt.end.charge, attempt.end.usage
            full = usage.prompt_tokens * 1_700_000 + usage.completion_tokens * 5_300_000
            spent["batch" if row.batch else ""].add(round(charge.micro / (full / 1e6), 1))
        assert spent == {"": {1.0}, "batch": {0.5}}

    run(check, engines=[kit.engine()], providers=fakes(kit), batches=QUICK)


@pytest.mark.full
@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", ["unavailable", "rate_limit", "reset_after_headers"])
def test_what_fails_at_the_batch_price_is_answered_at_the_ordinary_one(run, kit, scenario):
    async def check(stack) -> None:
        await stack.stop()
        await stack.restart(sold(stack, stack.tree))
        async with client(stack, kit) as asked:
            found = await completed(asked, kit, await made(asked, 3), 60.0)
        assert [one["custom_id"] for one in found] == ["q0", "q1", "q2"]
        assert len(await stack.seen("alpha")) == 3

        def is_whole() -> bool:
            with stack.ledger() as ledger:
                return ledger.law() == []

        await kit.eventually(is_whole)

    run(check, engines=[kit.engine()], providers=fakes(kit, scenario=scenario), batches=QUICK)


async def begun_with_both(stack) -> dict:
    """Anew, with one model that both our engine and the vendors have; lines leave at once. Its
    settings."""
    await stack.stop()
    tree = sold(stack, stack.tree)
    tree["models"] = [MODELS[0] | {"offerings": MODELS[1]["offerings"]}]
    tree["batches"] |= {"away_before_s": 86_400, "away_measure_s": 0.0, "fill": 0.01}
    await stack.restart(tree)
    await stack.ready(1)
    return tree


@pytest.mark.full
def test_content_that_is_refused_there_goes_to_no_other_vendor(run, kit):
    async def check(stack) -> None:
        await begun_with_both(stack)
        async with client(stack, kit) as asked:
            found = await completed(asked, kit, await made(asked, 6, "m"))
        assert len(found) == 6
        assert await stack.seen("alpha") == []
        assert await stack.seen("cheap")

    blocked = fakes(kit, scenario="content_filter")
    slow = kit.engine(**kit.SLOW, max_num_seqs=2)
    run(check, engines=[slow], providers=blocked, batches=QUICK)


@pytest.mark.full
def test_content_that_was_refused_stays_home_though_the_gateway_ends_before_home_answers(run, kit):
    """Refused away, it waits for an engine that hangs; whoever runs it next knows."""

    async def check(stack) -> None:
        tree = await begun_with_both(stack)
        await stack.control(stack.engines[0], hang=True)
        async with client(stack, kit) as asked:
            batch = await made(asked, 6, "m")

            async def are_refused() -> bool:
                return len(await stack.seen("cheap")) >= 3

            await kit.eventually(are_refused)

            def are_marked() -> bool:
                with contextlib.closing(sqlite3.connect(stack.state / FILE)) as store:
                    (marks,) = store.execute("SELECT count(*) FROM batch_home").fetchone()
                return marks >= 3

            await kit.eventually(are_marked, 2.0)
        await stack.stop()
        await stack.control(stack.engines[0], hang=False)
        await stack.restart(tree)
        async with client(stack, kit) as asked:
            await completed(asked, kit, batch)
        asked_there = [str(one["body"]["messages"]) for one in await stack.seen("cheap")]
        assert len(asked_there) == len(set(asked_there)), "what was refused is not sent out again"
        assert await stack.seen("alpha") == []

    run(check, engines=[kit.engine(**kit.SLOW, max_num_seqs=2)], batches=QUICK,
        providers=fakes(kit, scenario="content_filter"))  # fmt: skip


@pytest.mark.full
def test_without_an_engine_of_ours_a_refusal_of_content_there_is_final(run, kit):
    async def check(stack) -> None:
        await stack.stop()
        await stack.restart(sold(stack, stack.tree))
        async with client(stack, kit) as asked:
            batch = await made(asked, 2)

            async def is_over() -> bool:
                return (await asked.batches.retrieve(batch.id)).status == "completed"

            await kit.eventually(is_over, 20.0)
            done = await asked.batches.retrieve(batch.id)
            assert (done.request_counts.completed, done.request_counts.failed) == (0, 2)
            said = (await asked.files.content(done.error_file_id)).text
        assert said.count("content_filter") == 2
        assert await stack.seen("alpha") == []
        assert len(await stack.seen("cheap")) == 2, "what was refused is not sent out again"

    run(check, engines=[kit.engine()], providers=fakes(kit, scenario="content_filter"),
        batches=QUICK)  # fmt: skip


@pytest.mark.full
@pytest.mark.timeout(120)
def test_lines_at_the_batch_price_survive_a_kill_in_the_middle(run_live, kit):
    lines = 150

    async def check(live, stack, tree) -> None:
        tree = sold(stack, tree)
        await live.start(tree)
        await live.ready()
        async with client(live, kit) as asked:
            batch = await made(asked, lines)

            async def is_in_the_middle() -> bool:
                found = await asked.batches.retrieve(batch.id)
                return 20 <= found.request_counts.completed < lines

            await kit.eventually(is_in_the_middle, 60.0)
            await live.kill()
        await live.start(tree)
        await live.ready()
        async with client(live, kit) as asked:
            found = await completed(asked, kit, batch, 60.0)
        assert [one["custom_id"] for one in found] == [f"q{n}" for n in range(lines)]
        shown = {one["response"]["request_id"] for one in found}
        assert len(shown) == lines

        def known() -> Any:
            with live.ledger() as ledger:
                rows = ledger.requests(10_000)
                return rows if shown <= {row.request_id for row in rows} else None

        rows = await kit.eventually(known)
        with live.ledger() as ledger:
            assert ledger.law() == []
            assert ledger.open_attempts() == []
        good = {row.request_id for row in rows if row.outcome == "ok"}
        lost = {row.request_id for row in rows if row.outcome == "gateway_lost"}
        assert good <= shown <= good | lost
        assert len(rows) == len(good | lost)
        sent = len(await stack.seen("cheap"))
        assert len(good) <= sent <= len(rows), "what was sent is on record; lost may be unsent"
        assert await stack.seen("alpha") == []

    batches = QUICK | {"away_of_batch_max": 8}
    slow = fakes(kit, ttft_ms=200.0)
    run_live(check, engines=[kit.engine()], providers=slow, batches=batches)
