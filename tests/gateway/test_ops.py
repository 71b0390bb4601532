"""The ops listener, and the official client against the public one."""

from __future__ import annotations

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families


async def _series(stack) -> dict[str, dict[tuple, float]]:
    text = (await stack.get("/metrics")).body.decode()
    found: dict[str, dict[tuple, float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_metrics_parse_and_the_named_series_move(run, kit):
    async def check(stack) -> None:
        before = await _series(stack)
        for _ in range(3):
            assert (await stack.chat(stream=True)).status == 200
        await stack.control(stack.engines[0], fail_next=1, status=503)
        assert (await stack.chat()).headers["x-ballast-reason"] == "overflow:full"
        assert (await stack.chat("main", model="none")).status == 404
        assert (await stack.post("/v1/chat/completions", b"{", "main")).status == 400
        assert (await stack.chat("never", model="m2")).status == 503
        await stack.rows(6)
        after = await _series(stack)

        def moved(name: str, **labels: str) -> float:
            def total(series) -> float:
                wanted = set(labels.items())
                return sum(v for k, v in series.get(name, {}).items() if wanted <= set(k))

            return total(after) - total(before)

        assert moved("ballast_requests_total", outcome="ok", model="m") == 4
        assert moved("ballast_requests_total", outcome="caller_error") == 1
        assert moved("ballast_requests_total", outcome="refused", model="m2") == 1
        assert moved("ballast_attempts_total", tier="own", outcome="full") == 1
        assert moved("ballast_attempts_total", tier="api", outcome="ok") == 1
        assert moved("ballast_overflow_total", reason="overflow:full") == 1
        assert moved("ballast_unparsed_requests_total", code="invalid_json") == 1
        assert moved("ballast_refused_total", code="no_capacity") == 1
        assert moved("ballast_tokens_total", tier="own", kind="completion") == 24
        assert moved("ballast_tokens_total", tier="api", kind="prompt") > 0
        assert moved("ballast_money_micro_total", provider="alpha", currency="USD") > 0
        assert moved("ballast_first_token_seconds_count", tier="own") == 3
        assert moved("ballast_inter_token_seconds_count", tier="own") == 3
        assert moved("ballast_request_seconds_count") == 4
        for name in ("ballast_queue_depth", "ballast_replicas", "ballast_target_breaker_open",
                     "ballast_fleet_view_age_seconds", "ballast_journal_lag_bytes",
                     "ballast_policy_age_seconds", "ballast_tickets_out"):  # fmt: skip
            assert name in after, name
        assert set(after["ballast_tickets_out"].values()) == {0.0}
        assert max(after["ballast_policy_age_seconds"].values()) < 20.0
        assert all("bl-" not in str(labels) for series in after.values() for labels in series)

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()})


def test_probes_signals_and_decisions(run, kit):
    async def check(stack) -> None:
        assert (await stack.get("/livez")).json == {"status": "ok"}
        assert (await stack.get("/readyz")).json == {"status": "ok", "reasons": []}
        reply = await stack.chat()
        signals = (await stack.get("/signals")).json
        assert signals["version"] == 1
        assert signals["instance"] == "here/0"
        assert signals["started"] <= signals["at"]
        assert set(signals["models"]) == {"m", "m2"}
        assert set(signals["models"]["m"]) == {
            "running", "queued", "queued_tokens", "oldest_wait_s", "shed_total", "burst_total",
            "served_prompt_total", "served_output_total", "shed_prompt_total",
            "shed_output_total", "burst_prompt_total", "burst_output_total",
            "late_total", "late_prompt_total", "late_output_total",
            "bound_total", "is_shut",
        }  # fmt: skip
        assert not signals["models"]["m"]["is_shut"]
        assert (await stack.chat("never", model="m2")).status == 503
        assert (await stack.signals("m2"))["shed_total"] == 1
        wanted = reply.headers["x-request-id"]
        found = (await stack.get(f"/decisions?request_id={wanted}")).json["decisions"]
        assert [line["request_id"] for line in found] == [wanted]
        assert found[0]["reason"] == "local"
        assert "hello" not in str(found)
        assert (await stack.get("/docs")).status == 404

    run(check, engines=[kit.engine()])


@pytest.mark.parametrize(
    ("scenario", "is_shut"), [("rate_limit", False), ("out_of_money_402", True)]
)
def test_a_third_party_is_told_as_absent_when_it_is_more_than_limited(run, kit, scenario, is_shut):
    async def check(stack) -> None:
        await stack.control(stack.providers["alpha"], default=scenario)
        assert (await stack.chat()).status >= 400
        row = (await stack.get("/fleet")).json["models"]["m"]["offerings"][0]
        assert row["breaker"] in ("open", "half-open")
        assert (await stack.signals())["is_shut"] is is_shut

    run(check, providers={"alpha": kit.provider()})


def _client(stack, kit, key: str = "main") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=kit.key_of(key), max_retries=0)


def test_the_official_client_chats_streams_and_lists(run, kit):
    async def check(stack) -> None:
        async with _client(stack, kit) as client:
            answer = await client.chat.completions.create(**kit.chat())
            assert answer.choices[0].message.content == kit.text_of(kit.MESSAGES, 8)
            assert answer.usage.completion_tokens == 8
            stream = await client.chat.completions.create(
                **kit.chat(), stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            assert text == kit.text_of(kit.MESSAGES, 8)
            assert chunks[-1].usage.completion_tokens == 8
            plain = await client.completions.create(model="m", prompt="hello", max_tokens=4)
            assert plain.usage.completion_tokens == 4
            assert [m.id for m in (await client.models.list()).data] == ["m", "m-alias", "m2"]
            assert (await client.models.retrieve("m")).id == "m"

    run(check, engines=[kit.engine()])


ERRORS = {
    "key": (openai.AuthenticationError, {}, "revoked"),
    "model": (openai.NotFoundError, {"model": "none"}, "main"),
    "value": (openai.BadRequestError, {"max_tokens": -1}, "main"),
    "engine's value": (openai.BadRequestError, {"temperature": 9.0}, "main"),
    "permission": (openai.PermissionDeniedError, {}, "some"),
    "capacity": (openai.InternalServerError, {"model": "m2"}, "main"),
}


def test_errors_become_the_official_clients_exceptions(run, kit):
    async def check(stack) -> None:
        for name, (kind, changes, key) in ERRORS.items():
            async with _client(stack, kit, key) as client:
                with pytest.raises(kind) as caught:
                    await client.chat.completions.create(**kit.chat(**changes))
                assert caught.value.body["message"], name
                assert caught.value.body["type"], name

    run(check, engines=[kit.engine()])


def test_a_broken_stream_is_an_error_of_the_official_client_too(run, kit):
    async def check(stack) -> None:
        async with _client(stack, kit) as client:
            stream = await client.chat.completions.create(**kit.chat(), stream=True)
            with pytest.raises(openai.APIError) as caught:
                async for _ in stream:
                    pass
            assert caught.value.code == "stream_interrupted"

    run(check, providers={"alpha": kit.provider(scenario="eof_without_finish")})


def test_a_load_test_is_no_demand_and_stands_apart_in_the_books(run, kit):
    async def check(stack) -> None:
        async with stack.streaming("load", max_tokens=40) as response:
            await response.content.readany()
            assert (await stack.load())["r"] == 1
            assert (await stack.signals())["running"] == 0
            await response.content.read()
        (row,) = await stack.rows(1)
        assert (row.feature, row.usage.completion_tokens) == ("load-test", 40)
        signals = await stack.signals()
        assert (signals["running"], signals["served_output_total"]) == (0, 0)
        refused = await stack.post(
            "/v1/chat/completions",
            kit.chat(),
            "load",
            x_ballast_ttft_ms="1",
            x_ballast_class="live",
        )
        assert refused.status in (200, 503)
        assert (await stack.signals())["shed_total"] == 0

    run(check, engines=[kit.engine(**kit.SLOW, output_tokens=50)])
