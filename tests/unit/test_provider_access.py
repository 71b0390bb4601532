"""What an operator says of an account: contract, address, place, proxy, key file."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError

from models.provider import FOLDER, load
from serving.backends.keyfile import LOOK_S, KeyFile
from serving.offerings import accounts, offerings
from serving.provider_access import ProviderAccess
from serving.records import DataLabel
from serving.settings import Settings, SettingsError

ROWS = load(FOLDER)
ENV = {row.api_key_env: "key" for row in ROWS.values()}
PRICE = {"currency": "CNY", "input_per_mtok": "3", "output_per_mtok": "9", "as_of": "2026-11-26"}


def sell(text, day=date(2026, 11, 26), **access):
    provider = text.partition("/")[0]
    given = Settings.model_validate({
        "models": [{"name": "m", "offerings": [text]}], "providers": [{"id": provider, **access}],
    })  # fmt: skip
    bought = accounts(given, ENV)
    return offerings(given, bought, day)["m"][0], bought[provider]


UNPRICED = [
    f"{row.id}/{sold.id}"
    for row in ROWS.values()
    for sold in row.models
    if not sold.free and sold.input_per_mtok is None
    if sold.hearing is None or sold.hearing.per_hour is None
]


@pytest.mark.parametrize("text", UNPRICED)
def test_an_unknown_price_is_not_sold_until_the_operator_gives_one(text):
    provider, _, model = text.partition("/")
    with pytest.raises(SettingsError, match=r"price is unknown.*models: \{"):
        sell(text, address={"resource": "r", "region": "r"})
    offering, _ = sell(text, models={model: {**PRICE, "context_tokens": 9000}})
    assert offering.price.currency == "CNY"
    assert offering.price.cached_micro_per_mtok == 3_000_000
    assert offering.price.source == "settings"
    assert provider == offering.provider


def test_an_unknown_context_or_answer_is_not_sold_either():
    with pytest.raises(SettingsError, match="context_tokens"):
        sell("tencent-cn/hy4")
    assert (
        sell("tencent-cn/hy4", models={"hy4": {"context_tokens": 9000}})[0].context_tokens == 9000
    )
    with pytest.raises(SettingsError, match="output_tokens_max"):
        sell("anthropic/claude-fable-5-2")


def test_a_contract_s_price_holds_at_all_hours():
    offering, _ = sell("deepseek/deepseek-flash", models={"deepseek-flash": PRICE})
    assert offering.rates == ()
    assert offering.price.input_micro_per_mtok == 3_000_000


@pytest.mark.parametrize("lacking", ["currency", "input_per_mtok", "output_per_mtok", "as_of"])
def test_half_a_price_is_refused(lacking):
    half = {name: value for name, value in PRICE.items() if name != lacking}
    with pytest.raises(ValidationError, match="a price is"):
        ProviderAccess.model_validate({"id": "x", "models": {"m": half}})


def test_a_model_the_row_does_not_sell_cannot_have_terms():
    with pytest.raises(SettingsError, match="not sold: gpt-0"):
        sell("openai/gpt-6-luna", models={"gpt-0": {}})


def test_any_other_url_is_sold_at_the_owner_s_terms():
    given = {"base_url": "https://gw.internal/v1", "jurisdiction": "cn"}
    with pytest.raises(SettingsError, match="sells no 'big'"):
        sell("openai-compatible/big", **given)
    with pytest.raises(SettingsError, match="price is unknown"):
        sell("openai-compatible/big", **given, models={"big": {"context_tokens": 9000}})
    terms = {**PRICE, "context_tokens": 9000}
    offering, account = sell("openai-compatible/big", **given, models={"big": terms})
    assert account.base_url == "https://gw.internal/v1"
    assert offering.label == DataLabel("cn", "as configured")
    assert (offering.context_tokens, offering.upstream_model) == (9000, "big")


def test_braces_of_an_address_must_be_filled():
    with pytest.raises(SettingsError, match=r"\{resource\}"):
        sell("azure/gpt-6-luna")
    offering, account = sell(
        "azure/gpt-6-luna", address={"resource": "acme"}, jurisdiction="eu",
        models={"gpt-6-luna": {"deployment": "luna-eu"}},
    )  # fmt: skip
    assert account.base_url == "https://acme.openai.azure.com"
    assert offering.upstream_model == "luna-eu"
    assert offering.label == DataLabel("eu", "Microsoft")


def test_an_unpinned_place_admits_nobody_who_names_countries():
    offering, _ = sell("openrouter/z-ai/glm-5.3")
    assert offering.label.jurisdiction == "zz"
    assert (offering.provider, offering.upstream_model) == ("openrouter", "z-ai/glm-5.3")


def test_a_withdrawn_name_refuses_to_start():
    with pytest.raises(SettingsError, match="withdrew 'deepseek-chat' on 2026-07-24"):
        sell("deepseek/deepseek-chat")


def test_a_name_with_an_announced_end_is_sold_until_then():
    assert sell("openai/gpt-5.4-nano", day=date(2027, 3, 31))[0]
    with pytest.raises(SettingsError, match="2027-04-01"):
        sell("openai/gpt-5.4-nano", day=date(2027, 4, 1))


@pytest.mark.parametrize(
    "access",
    [
        {"proxy": "socks5://h:1"}, {"proxy": "http://user:pw@h:1"}, {"proxy": "h:1"},
        {"proxy": "http://h/path"}, {"address": {"region": "a/b"}}, {"address": {"region": ""}},
        {"jurisdiction": "USA"}, {"models": {"m": {"deployment": "a/b"}}},
    ],
    ids=str,
)  # fmt: skip
def test_an_access_that_cannot_be_meant_is_refused(access):
    with pytest.raises(ValidationError) as caught:
        ProviderAccess.model_validate({"id": "x", **access})
    assert next(iter(access)) in str(caught.value)


def test_a_proxy_belongs_to_one_account():
    assert sell("openai/gpt-6-luna", proxy="http://out:3128")[1].proxy == "http://out:3128"
    assert sell("openai/gpt-6-luna")[1].proxy is None


def test_a_short_lived_token_must_stand_in_a_file(tmp_path):
    where = {"project": "p", "location": "global"}
    with pytest.raises(SettingsError, match="api_key_file"):
        sell("vertex/google/gemini-4-argon", address=where)
    token = tmp_path / "token"
    token.write_text("ya29\n")
    _, account = sell("vertex/google/gemini-4-argon", address=where, api_key_file=token)
    assert account.headers(0.0)["authorization"] == "Bearer ya29"
    token.write_text("ya30\n")
    assert account.headers(LOOK_S - 1)["authorization"] == "Bearer ya29"
    assert account.headers(LOOK_S + 1)["authorization"] == "Bearer ya30"


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"a\nb"], ids=str)
def test_a_key_file_that_is_lost_for_a_while_leaves_the_last_key_in_force(tmp_path, content):
    file = tmp_path / "key"
    file.write_text("good")
    key = KeyFile(file)
    assert key.key(0.0) == "good"
    file.unlink() if content is None else file.write_bytes(content)
    assert key.key(LOOK_S + 1) == "good"
    file.write_text("new")
    assert key.key(2 * LOOK_S + 2) == "new"


def test_a_key_is_shown_as_the_row_says():
    shown = {
        "anthropic": {"x-api-key": "key", "anthropic-version": "2023-06-01"},
        "gemini": {"x-goog-api-key": "key"}, "deepseek": {"authorization": "Bearer key"},
    }  # fmt: skip
    for provider, headers in shown.items():
        row = ROWS[provider]
        assert sell(f"{provider}/{row.models[0].id}")[1].headers(0.0) == headers


def test_every_packaged_row_says_what_is_unknown_and_where_it_read_the_rest():
    for row in ROWS.values():
        assert row.processing is not None, row.id
        assert row.facts.model_fields_set == set(type(row.facts).model_fields), row.id
