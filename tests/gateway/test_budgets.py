"""Budgets against a real gateway: money runs out, and each call is told what that means for it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

from serving.auth import digest
from serving.budgets.base import LEASE_MS
from serving.budgets.funds import Funds
from serving.budgets.settings import BudgetSettings
from serving.budgets.settle import settle_dead
from serving.budgets.sqlite import SqliteBudgets
from serving.budgets.values import Budget
from serving.logs import utc_ms

OWNER = "ba-owner"


def administrators(pepper: bytes) -> list[dict[str, str]]:
    return [
        {"id": role, "role": role, "hmac": digest(pepper, f"ba-{name}".encode()).hex()}
        for role, name in (("admin", "owner"), ("viewer", "see"), ("finance", "money"))
    ] + [
        {"id": "head", "role": "viewer", "tenants": ["acme"],
         "hmac": digest(pepper, b"ba-head").hex()},
    ]  # fmt: skip


class Desk:
    """Asks the admin API."""

    def __init__(self, stack, key: str = OWNER) -> None:
        self._stack, self._key = stack, key

    async def __call__(self, method: str, path: str, **more):
        head = {"Authorization": f"Bearer {self._key}"}
        url = f"{self._stack.ops}/admin/v1{path}"
        async with self._stack.session.request(method, url, headers=head, **more) as reply:
            return reply.status, await reply.json()

    async def set(self, **row):
        """A budget of tenant acme in dollars; its slice is leased when this returns."""
        given = {"id": "b", "tenant": "acme", "currency": "USD"} | row
        status, answer = await self("PUT", "/budgets", json=given, params={"why": "test"})
        assert status == 200, answer
        await asyncio.sleep(0)

    async def shown(self, id_: str = "b"):
        _, found = await self("GET", f"/budgets/{id_}")
        return found


def spend(run, kit, check, **changes):
    """Run a check on a gateway with administrators and one provider."""
    changes = {"providers": {"alpha": kit.provider()}} | changes
    run(check, administrators=administrators(kit.PEPPER), **changes)


CALL = 1000
"""Most output tokens asked for: 0.0053 dollars at the provider's price, and a little of prompt."""


def test_a_hard_budget_stops_paid_calls_and_says_when_it_starts_anew(run, kit, book):
    async def check(stack) -> None:
        desk = Desk(stack)
        await desk.set(limit_micro=12_000, period="day")
        replies = [await stack.chat(max_tokens=CALL) for _ in range(40)]
        good = [r for r in replies if r.status == 200]
        assert 1 < len(good) < 40
        refused = replies[-1]
        assert (refused.status, refused.json["error"]["code"]) == (429, "budget_exceeded")
        assert refused.json["error"]["type"] == "insufficient_quota"
        assert "budget 'b' (0.012 USD a day)" in refused.json["error"]["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 3600
        assert len(await stack.seen()) == len(good)
        rows = await stack.rows(40)
        paid = sum(a.end.charge.micro for row in rows for a in stack.attempts(row.request_id))
        assert paid <= 12_000

        async def is_told() -> bool:
            found = await desk.shown()
            return found["spent_micro"] == paid and found["passed"] == [50]

        await kit.eventually(is_told)
        metrics = (await stack.get("/metrics")).body
        assert b'ballast_budget_used_ratio{budget="b",scope="tenant"}' in metrics
        assert b'ballast_refused_total{code="budget_exceeded",model="m"}' in metrics

    spend(run, kit, check, **book)


def test_a_price_without_a_rate_to_the_budgets_currency_is_refused_as_that(run, kit):
    async def check(stack) -> None:
        await Desk(stack).set(limit_micro=10**9)
        refused = await stack.chat(max_tokens=4)
        assert (refused.status, refused.error["code"]) == (429, "budget_exceeded")
        said = "paid in a currency without a rate to that of budget 'b' (1000.00 USD a month)"
        assert said in refused.error["message"]
        assert "starts anew" not in refused.error["message"], "waiting would help nobody"
        assert await stack.seen() == []

    row = kit.row("alpha")
    row["models"][0]["currency"] = "EUR"
    spend(run, kit, check, rows=[row])


def test_another_tenant_and_another_provider_spend_on(run, kit):
    async def check(stack) -> None:
        await Desk(stack).set(limit_micro=0, tenant="", provider="alpha")
        reply = await stack.chat(max_tokens=8)
        assert reply.status == 200
        assert [len(await stack.seen(name)) for name in ("alpha", "beta")] == [0, 1]

    providers = {"alpha": kit.provider(), "beta": kit.provider()}
    spend(run, kit, check, providers=providers)


def test_an_own_engine_serves_on_when_the_money_is_gone(run, kit):
    async def check(stack) -> None:
        await Desk(stack).set(limit_micro=0)
        replies = await asyncio.gather(*(stack.chat(max_tokens=8) for _ in range(5)))
        assert [r.status for r in replies] == [200] * 5
        assert await stack.seen() == []

    spend(run, kit, check, engines=[kit.engine()])


def test_a_soft_budget_warns_and_stops_nothing(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        await desk.set(limit_micro=100, kind="soft")
        assert [(await stack.chat(max_tokens=64)).status for _ in range(3)] == [200] * 3

        async def is_told() -> bool:
            return (await desk.shown())["passed"] == [50, 80, 100]

        await kit.eventually(is_told)

    spend(run, kit, check)


def test_the_answer_is_bounded_on_egress_only_and_only_where_a_budget_pays(run, kit):
    async def check(stack) -> None:
        bare = {"max_tokens": None}
        assert (await stack.chat(**bare)).status == 200
        await Desk(stack).set(limit_micro=10_000_000)
        for more in (bare, {"max_tokens": 77}):
            assert (await stack.chat(**more)).status == 200
        sent = [row["body"].get("max_tokens") for row in await stack.seen()]
        assert sent == [None, 4096, 77]

    spend(run, kit, check)


def test_ladders_change_the_model_keep_at_home_and_refuse(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        step = {"at_share": 0.0, "action": "smaller_model", "model": "m2"}
        await desk.set(limit_micro=10_000_000, ladder=[step])
        reply = await stack.chat(max_tokens=8)
        assert (reply.status, reply.headers["x-ballast-model"]) == (200, "m2")
        step = {"at_share": 0.0, "action": "local_only"}
        await desk.set(limit_micro=10_000_000, ladder=[step])
        reply = await stack.chat(max_tokens=8)
        assert (reply.status, reply.json["error"]["code"]) == (429, "budget_exceeded")
        assert "own engines" in reply.json["error"]["message"]
        step = {"at_share": 0.0, "action": "refuse"}
        await desk.set(limit_micro=10_000_000, ladder=[step])
        reply = await stack.chat(max_tokens=8)
        assert (reply.status, reply.json["error"]["code"]) == (429, "budget_exceeded")
        assert "refuses calls" in reply.json["error"]["message"]
        assert len(await stack.seen()) == 1

    models = [{"name": n, "profile": "instant", "offerings": ["alpha/big"]} for n in ("m", "m2")]
    spend(run, kit, check, models=models)


def test_a_raise_pays_for_more_until_it_ends(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack, "ba-money")
        await desk.set(limit_micro=10)
        assert (await stack.chat(max_tokens=CALL)).status == 429
        body = {"micro": 1_000_000, "until": "2100-01-01T00:00:00+08:00"}
        status, _ = await desk("POST", "/budgets/b/raise", json=body, params={"why": "launch"})
        assert status == 200
        assert (await stack.chat(max_tokens=CALL)).status == 200
        found = await desk.shown()
        assert found["effective_limit_micro"] == 1_000_010
        assert found["raises"][0]["by"] == "finance"
        _, history = await Desk(stack)("GET", "/history")
        told = [(e["actor"], e["action"], e["subject"], e["why"]) for e in history["entries"]]
        assert ("finance", "raise", "budget:b", "launch") in told

    spend(run, kit, check)


def test_a_tenants_owner_reads_its_budgets_and_changes_none(run, kit):
    async def check(stack) -> None:
        desk, head = Desk(stack), Desk(stack, "ba-head")
        await desk.set(limit_micro=10)
        await desk.set(id="beta", tenant="beta", limit_micro=10)
        await desk.set(id="all", tenant="", limit_micro=10**9)
        _, found = await head("GET", "/budgets")
        assert [b["id"] for b in found["budgets"]] == ["b"]
        assert (await head("GET", "/budgets/beta"))[0] == 404
        assert (await head("DELETE", "/budgets/beta"))[0] == 404
        assert (await head("DELETE", "/budgets/b"))[0] == 403
        row = {"id": "c", "tenant": "acme", "limit_micro": 1}
        for one in (head, Desk(stack, "ba-see")):
            assert (await one("PUT", "/budgets", json=row))[0] == 403
        for bad in ({"limit_micro": -1}, {"limit_micro": "NaN"}, {"currency": "EUR"},
                    {"tenant": "nobody"}, {"period": "week"}, {"id": "x'; DROP TABLE"},
                    {"ladder": [{"at_share": 0.5, "action": "explode"}]}):  # fmt: skip
            status, answer = await desk("PUT", "/budgets", json=row | bad)
            assert status in (400, 404), (bad, answer)
        assert (await desk("PUT", "/budgets", json=row | {"id": "b", "currency": "USD",
                                                          "period": "day"}))[0] == 400  # fmt: skip
        assert (await desk("DELETE", "/budgets/b"))[0] == 200
        assert (await stack.chat(max_tokens=CALL)).status == 200

    spend(run, kit, check)


def test_what_was_spent_is_known_after_a_restart_and_the_rest_is_free(run, kit, book):
    async def check(stack) -> None:
        desk = Desk(stack)
        await desk.set(limit_micro=10_000_000)
        assert (await stack.chat(max_tokens=CALL)).status == 200
        row = (await stack.rows(1))[0]
        paid = stack.attempts(row.request_id)[0].end.charge.micro
        await stack.stop()
        await stack.restart(stack.tree)
        found = await desk.shown()
        assert (found["spent_micro"], found["presumed_micro"]) == (paid, 0)

    spend(run, kit, check, **book)


def test_a_dev_project_is_capped_by_default(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        await desk("POST", "/projects", json={"tenant": "acme", "name": "default",
                                              "environment": "dev"})  # fmt: skip
        _, found = await desk("GET", "/budgets")
        cap = found["budgets"][0]
        assert (cap["id"], cap["limit_micro"]) == ("dev:acme:default", 1)
        assert (await stack.chat(max_tokens=CALL)).status == 429

    spend(run, kit, check, **{"budgets.dev_limit_micro": 1})


def test_tokens_of_own_engines_count_only_at_the_owners_price(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        await desk.set(limit_micro=1_000_000, currency="CNY")
        reply = await stack.chat(max_tokens=8)
        usage = reply.json["usage"]
        owed = usage["prompt_tokens"] * 2 + usage["completion_tokens"] * 3

        async def is_counted() -> bool:
            return (await desk.shown())["spent_micro"] == owed

        await kit.eventually(is_counted)
        assert await stack.seen() == []

    spend(
        run, kit, check, engines=[kit.engine()],
        **{"budgets.gpu_input_micro_per_mtok": 2_000_000,
           "budgets.gpu_output_micro_per_mtok": 3_000_000},
    )  # fmt: skip


def test_a_store_that_is_away_leaves_the_slice_and_says_so(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        await desk.set(limit_micro=2_000_000)
        assert (await stack.chat(max_tokens=8)).status == 200

        def is_away(state: str):
            async def check() -> bool:
                text = f"ballast_budget_store_away {state}".encode()
                return text in (await stack.get("/metrics")).body

            return check

        with contextlib.closing(sqlite3.connect(Path(stack.state, "ledger.sqlite"))) as other:
            other.execute("BEGIN IMMEDIATE")
            await stack.chat(max_tokens=8)
            await kit.eventually(is_away("1.0"))
            assert (await stack.chat(max_tokens=CALL)).status == 200
            refused = await stack.chat(max_tokens=30_000)
            assert (refused.status, refused.headers["retry-after"]) == (429, "5")
            assert "store is away" in refused.json["error"]["message"]
            other.rollback()
        await kit.eventually(is_away("0.0"))
        assert (await stack.chat(max_tokens=30_000)).status == 200

    spend(run, kit, check)


def test_a_try_that_failed_gives_back_what_it_reserved(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        await desk.set(limit_micro=10_000_000)
        replies = [await stack.chat(max_tokens=CALL) for _ in range(3)]
        assert [r.status for r in replies] == [200] * 3
        paid = 0
        for row in await stack.rows(3):
            tries = stack.attempts(row.request_id)
            assert tries[0].begin.target in ("alpha/big", "beta/big")
            paid += sum(one.end.charge.micro for one in tries)
        (purse,) = stack.gateway.funds.purses.values()
        assert (purse.reserved, purse.spent) == (0, paid)

    providers = {"alpha": kit.provider(scenario="server_error"), "beta": kit.provider()}
    spend(run, kit, check, providers=providers)


def test_usage_that_never_came_counts_as_estimated(run, kit):
    async def check(stack) -> None:
        await Desk(stack).set(limit_micro=10_000_000)
        assert (await stack.chat(max_tokens=CALL)).status == 200
        (row,) = await stack.rows(1)
        (one,) = stack.attempts(row.request_id)
        assert one.end.usage.is_estimated
        (purse,) = stack.gateway.funds.purses.values()
        assert purse.spent == one.end.charge.micro > 0

    spend(run, kit, check, providers={"alpha": kit.provider(scenario="no_usage")})


def test_a_budget_made_again_goes_on_where_it_was(run, kit):
    async def check(stack) -> None:
        desk = Desk(stack)
        await desk.set(limit_micro=10_000_000)
        assert (await stack.chat(max_tokens=CALL)).status == 200
        spent = next(iter(stack.gateway.funds.purses.values())).spent
        assert spent > 0
        assert (await desk("DELETE", "/budgets/b"))[0] == 200
        await kit.eventually(lambda: next(iter(stack.gateway.funds.purses.values())).is_closed)
        assert (await stack.chat(max_tokens=CALL)).status == 200
        await desk.set(limit_micro=10_000_000)

        async def is_back() -> bool:
            found = await desk.shown()
            return found["spent_micro"] == spent and found["leased_micro"] > 0

        await kit.eventually(is_back)

    spend(run, kit, check)


def test_a_burst_of_calls_outruns_no_slice(run, kit):
    async def check(stack) -> None:
        await Desk(stack).set(limit_micro=400_000)
        replies = await asyncio.gather(*(stack.chat(max_tokens=CALL) for _ in range(60)))
        assert [r.status for r in replies] == [200] * 60

    spend(run, kit, check)


def test_a_killed_gateway_s_slice_counts_until_its_rows_tell(run_live, kit):
    async def check(live, stack, tree) -> None:
        await live.start(tree)
        desk = Desk(live)
        await desk.set(limit_micro=10_000_000)
        async with live.streaming(max_tokens=CALL) as first:
            await first.content.readany()
            await live.kill()
        await live.start(tree)
        found = await desk.shown()
        assert found["spent_micro"] == 0
        assert found["leased_micro"] >= 2 * 50_000, "the dead one's and the living one's"
        (row,) = await live.rows(1)
        (one,) = live.attempts(row.request_id)
        assert one.end.outcome == "gateway_lost"
        fields = {name: found[name] for name in Budget.model_fields if name in found}
        funds = Funds(BudgetSettings(), {}, utc_ms)
        funds.take({"b": Budget.model_validate(fields)})
        with contextlib.closing(SqliteBudgets.open(live.state / "ledger.sqlite")) as store:
            later_ms = utc_ms() + 2 * LEASE_MS
            assert settle_dead(store, funds, (later_ms, 0)) == 1, "the living one's is not touched"
        found = await desk.shown()
        assert found["spent_micro"] == one.end.charge.micro > 0
        assert found["leased_micro"] < 2 * 50_000

    run_live(
        check, providers={"alpha": kit.provider(itl_ms=50.0, output_tokens=500)},
        administrators=administrators(kit.PEPPER),
    )  # fmt: skip
