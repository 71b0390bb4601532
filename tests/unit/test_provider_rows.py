"""The packaged provider table: it loads, its prices are exact, its rules know the traps."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import get_args

import pytest
import yaml

from models.provider import FOLDER, ErrorKind, ProviderFileError, load, micro
from serving.codecs.failures import classify
from serving.errors import Kind

ROWS = load(FOLDER)
SOLD = {f"{row.id}/{sold.id}": sold for row in ROWS.values() for sold in row.models}


def test_every_packaged_file_is_a_row_named_like_its_file():
    made = {name for name, row in ROWS.items() if row.vendor}
    assert set(ROWS) - made == {path.stem for path in FOLDER.glob("*.yaml")}
    assert {"openai", "deepseek", "zhipu-cn", "alibaba-cn"} <= set(ROWS)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_packaged_row_speaks_tls_and_names_each_model_once(row):
    assert row.base_url.startswith("https://")
    names = [sold.id for sold in row.models]
    assert len(names) == len(set(names))
    assert row.api_key_env.isupper()


@pytest.mark.parametrize("name", SOLD)
def test_every_price_is_exact_in_micro_units_and_has_its_source(name):
    sold = SOLD[name]
    for price in (sold.input_per_mtok, sold.output_per_mtok, sold.cached_per_mtok):
        if price is not None:
            assert type(micro(price)) is int
            assert Decimal(micro(price)) / 1_000_000 == price
    assert (sold.input_per_mtok is None) is (sold.output_per_mtok is None), "half a price is none"
    if sold.cached_per_mtok is not None:
        assert sold.cached_per_mtok <= sold.input_per_mtok
    assert sold.source
    assert sold.as_of


def test_no_price_is_no_number():
    assert micro(None) is None
    assert micro(Decimal("0.000001")) == 1


def test_a_rule_may_name_every_kind_and_no_other():
    assert set(get_args(ErrorKind)) == set(Kind)


DOCUMENTED = [
    ("zhipu-cn", 429, "1113", "余额不足", Kind.ACCOUNT_DEAD),
    ("zhipu-cn", 200, "1113", "余额不足", Kind.ACCOUNT_DEAD),
    ("zhipu-cn", 429, "1302", "并发", Kind.RATE_LIMIT),
    ("zhipu-cn", 429, "1305", "busy", Kind.OVERLOADED),
    ("zhipu-cn", 429, "1308", "quota", Kind.QUOTA_WINDOW),
    ("zhipu-cn", 401, "1003", "expired", Kind.KEY_DEAD),
    ("zhipu-cn", 403, "1121", "locked", Kind.ACCOUNT_DEAD),
    ("zhipu-cn", 400, "1301", "unsafe", Kind.CONTENT_FILTER),
    ("zhipu-cn", 200, "1301", "unsafe", Kind.CONTENT_FILTER),
    ("zhipu-cn", 400, "1261", "too long", Kind.CONTEXT_TOO_LONG),
    ("zhipu-cn", 400, "1210", "bad", Kind.BAD_REQUEST),
    ("openai", 429, "insufficient_quota", "You exceeded your current quota", Kind.ACCOUNT_DEAD),
    ("openai", 429, "billing_hard_limit_reached", "x", Kind.ACCOUNT_DEAD),
    ("openai", 429, "rate_limit_exceeded", "Rate limit reached", Kind.RATE_LIMIT),
    ("openai", 400, "context_length_exceeded", "x", Kind.CONTEXT_TOO_LONG),
    ("openai", 400, "content_policy_violation", "x", Kind.CONTENT_FILTER),
    ("openai", 404, "model_not_found", "x", Kind.TARGET_DEAD),
    ("openai", 401, "invalid_api_key", "x", Kind.KEY_DEAD),
    ("openai", 503, "", "overloaded", Kind.OVERLOADED),
    ("alibaba-cn", 429, "insufficient_quota", "Allocated quota exceeded", Kind.RATE_LIMIT),
    ("alibaba-cn", 429, "insufficient_quota", "You exceeded your current quota", Kind.RATE_LIMIT),
    ("alibaba-cn", 429, "limit_requests", "rate increased too quickly", Kind.RATE_LIMIT),
    ("alibaba-cn", 400, "Arrearage", "Access denied, overdue", Kind.ACCOUNT_DEAD),
    ("alibaba-cn", 403, "AccessDenied.Unpurchased", "x", Kind.ACCOUNT_DEAD),
    ("alibaba-cn", 403, "AllocationQuota.FreeTierOnly", "x", Kind.ACCOUNT_DEAD),
    ("alibaba-cn", 400, "data_inspection_failed", "x", Kind.CONTENT_FILTER),
    ("alibaba-cn", 200, "data_inspection_failed", "x", Kind.CONTENT_FILTER),
    ("alibaba-cn", 400, "InvalidParameter", "Range of input length", Kind.CONTEXT_TOO_LONG),
    ("alibaba-cn", 404, "model_not_found", "x", Kind.TARGET_DEAD),
    ("deepseek", 402, "invalid_request_error", "Insufficient Balance", Kind.ACCOUNT_DEAD),
    ("deepseek", 429, "", "Rate Limit Reached", Kind.RATE_LIMIT),
    ("deepseek", 422, "", "Invalid Parameters", Kind.BAD_REQUEST),
    ("deepseek", 503, "", "Server Overloaded", Kind.OVERLOADED),
    ("deepseek", 200, "", "some error in a stream", Kind.SERVER_ERROR),
    ("alibaba-intl", 429, "insufficient_quota", "Allocated quota exceeded", Kind.RATE_LIMIT),
    ("alibaba-intl", 400, "Arrearage", "Access denied, overdue", Kind.ACCOUNT_DEAD),
    ("moonshot-cn", 429, "exceeded_current_quota_error", "x", Kind.ACCOUNT_DEAD),
    ("moonshot-cn", 429, "engine_overloaded_error", "x", Kind.OVERLOADED),
    ("moonshot-cn", 429, "rate_limit_reached_error", "x", Kind.RATE_LIMIT),
    ("moonshot-intl", 400, "content_filter", "x", Kind.CONTENT_FILTER),
    ("volcengine-cn", 403, "AccountOverdueError", "overdue", Kind.ACCOUNT_DEAD),
    ("volcengine-cn", 404, "ModelNotOpen", "open it first", Kind.TARGET_DEAD),
    ("volcengine-cn", 404, "InvalidEndpointOrModel.NotFound", "x", Kind.TARGET_DEAD),
    ("volcengine-cn", 400, "SensitiveContentDetected.SevereViolation", "x", Kind.CONTENT_FILTER),
    ("volcengine-cn", 400, "InputTextSensitiveContentDetected", "x", Kind.CONTENT_FILTER),
    ("volcengine-cn", 429, "ServerOverloaded", "x", Kind.OVERLOADED),
    ("volcengine-cn", 429, "SetLimitExceeded", "x", Kind.QUOTA_WINDOW),
    ("volcengine-cn", 429, "ModelAccountRpmRateLimitExceeded", "x", Kind.RATE_LIMIT),
    ("qianfan-cn", 403, "account_overdue", "x", Kind.ACCOUNT_DEAD),
    ("qianfan-cn", 403, "system_unsafe", "x", Kind.CONTENT_FILTER),
    ("qianfan-cn", 429, "cluster_rate_limit_exceeded", "x", Kind.OVERLOADED),
    ("qianfan-cn", 429, "tpm_rate_limit_exceeded", "x", Kind.RATE_LIMIT),
    ("qianfan-cn", 200, "rpm_rate_limit_exceeded", "x", Kind.RATE_LIMIT),
    ("openrouter", 402, "openrouter_in_flight_budget", "x", Kind.RATE_LIMIT),
    ("openrouter", 402, "402", "Insufficient credits", Kind.ACCOUNT_DEAD),
    ("openrouter", 403, "403", "input flagged by moderation", Kind.CONTENT_FILTER),
    ("siliconflow-cn", 403, "30001", "account balance is insufficient", Kind.ACCOUNT_DEAD),
    ("siliconflow-cn", 403, "", "余额不足", Kind.ACCOUNT_DEAD),
    ("azure", 400, "content_filter", "filtered", Kind.CONTENT_FILTER),
    ("azure", 429, "429", "try again in 10 seconds", Kind.RATE_LIMIT),
    ("azure", 404, "DeploymentNotFound", "x", Kind.TARGET_DEAD),
    ("huawei-cn", 403, "ModelArts.81006", "x", Kind.ACCOUNT_DEAD),
    ("huawei-cn", 429, "ModelArts.81101", "x", Kind.RATE_LIMIT),
    ("zai-intl", 429, "1113", "insufficient balance", Kind.ACCOUNT_DEAD),
    ("groq", 498, "", "flex tier is full", Kind.OVERLOADED),
]


@pytest.mark.parametrize(
    ("provider", "status", "code", "message", "kind"),
    DOCUMENTED,
    ids=[f"{p} {s} {c} {m[:12]}" for p, s, c, m, _ in DOCUMENTED],
)
def test_documented_errors_mean_what_the_vendor_says(provider, status, code, message, kind):
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    assert classify(ROWS[provider].error_rules, status, body, {}).kind is kind


SHAPED = [
    ("anthropic", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
     Kind.OVERLOADED),
    ("anthropic", 400, {"type": "error", "error": {
        "type": "invalid_request_error", "message": "Your credit balance is too low"}},
     Kind.ACCOUNT_DEAD),
    ("anthropic", 400, {"type": "error", "error": {
        "type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"}},
     Kind.CONTEXT_TOO_LONG),
    ("anthropic", 200, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
     Kind.OVERLOADED),
    ("minimax-cn", 200, {"base_resp": {"status_code": 1008, "status_msg": "x"}}, Kind.ACCOUNT_DEAD),
    ("minimax-intl", 200, {"base_resp": {"status_code": 1027, "status_msg": "x"}},
     Kind.CONTENT_FILTER),
    ("huawei-cn", 429, {"error_code": "ModelArts.81103", "error_msg": "x"}, Kind.RATE_LIMIT),
    ("gemini", 503, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "x"}},
     Kind.OVERLOADED),
    ("vertex", 401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "x"}},
     Kind.KEY_DEAD),
    ("siliconflow-intl", 403, {"code": 30001, "message": "balance", "data": None},
     Kind.ACCOUNT_DEAD),
]  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "status", "body", "kind"), SHAPED, ids=[f"{p} {s} {k}" for p, s, _, k in SHAPED]
)
def test_errors_are_read_in_each_provider_s_shape(provider, status, body, kind):
    found = classify(ROWS[provider].error_rules, status, json.dumps(body).encode(), {})
    assert found.kind is kind


def test_a_delay_in_milliseconds_is_finer_than_the_one_in_seconds():
    headers = {"retry-after-ms": "1500", "Retry-After": "2"}
    assert classify((), 429, b"", headers).retry_after_s == 1.5


GOOD = {
    "id": "x", "name": "X", "jurisdiction": "us", "operator": "X", "base_url": "https://x",
    "api_key_env": "X_KEY",
    "models": [{"id": "m", "context_tokens": 1, "source": "here", "as_of": "2026-01-01",
                "input_per_mtok": "1", "output_per_mtok": "2"}],
}  # fmt: skip


def folder(path, **rows):
    path.mkdir(exist_ok=True)
    for name, row in rows.items():
        text = row if isinstance(row, str) else yaml.safe_dump(row)
        (path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return path


def sold(**changes):
    return {**GOOD, "models": [{**GOOD["models"][0], **changes}]}


BAD = {
    "unknown key": ({**GOOD, "regoin": "x"}, "regoin"),
    "no jurisdiction": ({k: v for k, v in GOOD.items() if k != "jurisdiction"}, "jurisdiction"),
    "long jurisdiction": ({**GOOD, "jurisdiction": "usa"}, "jurisdiction"),
    "odd address": ({**GOOD, "base_url": "ftp://x"}, "base_url"),
    "finer than micro": (sold(input_per_mtok="0.0000001"), "input_per_mtok"),
    "negative price": (sold(output_per_mtok="-1"), "output_per_mtok"),
    "endless price": (sold(cached_per_mtok="Infinity"), "cached_per_mtok"),
    "no source": (sold(source=""), "source"),
    "odd date": (sold(as_of="yesterday"), "as_of"),
    "unknown kind": ({**GOOD, "error_rules": [{"kind": "oops"}]}, "error_rules.0.kind"),
    "broken code": ({**GOOD, "error_rules": [{"kind": "cut", "code": "("}]}, "error_rules.0.code"),
    "broken message": (
        {**GOOD, "error_rules": [{"kind": "cut", "message": "["}]}, "error_rules.0.message"),
    "a switch as a member": ({**GOOD, "extra_fields": ["enable_thinking"]}, "extra_fields"),
    "a chat dialect's vectors": (
        {**GOOD, "dialect": "gemini", "surfaces": ["embeddings"]}, "chats only"),
    "free at a price": (sold(free=True), "free, and with a price"),
    "a model twice": ({**GOOD, "models": GOOD["models"] * 2}, "named twice"),
    "a successor nobody sells": (
        {**GOOD, "retired": [{"id": "o", "on": "2026-01-01", "successor": "n", "source": "s"}]},
        "successor not among models"),
    "no mapping": ("- 1", "x.yaml"),
    "no yaml": ("a: [", "x.yaml"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "word"), BAD.values(), ids=BAD)
def test_a_wrong_row_refuses_to_load_and_names_the_key(tmp_path, row, word):
    with pytest.raises(ProviderFileError, match=r"x\.yaml") as caught:
        load(folder(tmp_path, x=row))
    assert word in str(caught.value)


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"id: \xff")
    with pytest.raises(ProviderFileError, match=r"x\.yaml"):
        load(tmp_path)


def test_a_later_folder_replaces_rows_and_one_folder_never_its_own(tmp_path):
    mine = folder(tmp_path / "mine", openai={**GOOD, "id": "openai", "name": "Mine"})
    assert load(FOLDER, mine)["openai"].name == "Mine"
    assert load(FOLDER, mine).keys() == ROWS.keys() - {"openai-batch"}, "mine sells no batches"
    folder(mine, other={**GOOD, "id": "openai"})
    with pytest.raises(ProviderFileError, match="twice"):
        load(FOLDER, mine)


def test_a_batch_price_by_the_call_is_a_row_more_at_that_price():
    row, cheap = ROWS["openai"], ROWS["openai-batch"]
    assert (cheap.vendor, cheap.api_key_env) == ("openai", row.api_key_env)
    assert (cheap.jurisdiction, cheap.operator) == (row.jurisdiction, row.operator)
    assert cheap.set_fields == {"service_tier": "flex"}
    assert cheap.wait_s == cheap.first_token_s == 900
    for sold in cheap.models:
        (plain,) = (one for one in row.models if one.id == sold.id)
        assert sold.input_per_mtok * 2 == plain.input_per_mtok
        assert sold.output_per_mtok * 2 == plain.output_per_mtok
        for rule, before in zip(sold.exceptions, plain.exceptions, strict=True):
            assert rule.input_per_mtok * 2 == before.input_per_mtok
            assert rule.above_tokens == before.above_tokens
        assert "help.openai.com" in sold.source


def test_what_is_sold_by_the_call_has_its_own_address_and_bounds():
    ali, ark = ROWS["alibaba-cn-batch"], ROWS["volcengine-cn-batch"]
    assert ali.base_url == "https://batch.dashscope.aliyuncs.com/compatible-mode/v1"
    assert {sold.context_tokens for sold in ali.models} == {256_000}
    assert "glm-5.3" not in {sold.id for sold in ali.models}, "nobody has read that it is sold so"
    assert (ark.base_url, ark.path) == (ROWS["volcengine-cn"].base_url, "/batch/chat/completions")


def test_an_uneven_price_is_cut_to_a_micro_unit():
    for row in ROWS.values():
        if row.vendor:
            for sold in row.models:
                assert micro(sold.input_per_mtok) is not None, sold.id


def test_a_batch_price_of_a_model_that_is_not_sold_refuses_to_load(tmp_path):
    batch = {"discount": "0.5", "window_h": 24, "models": ["x"], "source": "s"}
    batch["as_of"] = "2026-11-26"
    with pytest.raises(ProviderFileError, match="batch: not among models: x"):
        load(folder(tmp_path / "f", shop={**GOOD, "batch": batch}))


def test_who_takes_pictures_names_where_that_was_read_and_when() -> None:
    said = {
        (row.id, sold.id): sold.sees_source
        for row in load(FOLDER).values() for sold in row.models if sold.sees
    }  # fmt: skip
    assert said
    unread = [name for name, text in said.items() if not re.search(r"read 20\d\d-\d\d-\d\d$", text)]
    assert not unread, "an unread claim is false: leave `sees` out"
