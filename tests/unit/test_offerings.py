"""Offerings: providers must be switched on, keyed and priced before anything may overflow."""

from __future__ import annotations

import pytest
import yaml

from models.provider import FOLDER
from models.provider import load as load_rows
from serving.offerings import accounts, offerings
from serving.placement.fitness import weights
from serving.records import DataLabel, Surface
from serving.settings import Settings, SettingsError

ENV = {"OPENAI_API_KEY": "sk-secret", "ZHIPU_API_KEY": "zp"}
OPENAI = load_rows(FOLDER)["openai"]


def settings(models=(), providers=({"id": "openai"},), **more):
    return Settings.model_validate({"models": models, "providers": providers, **more})


def sell(text, **more):
    given = settings([{"name": "m", "offerings": [text]}], **more)
    return offerings(given, accounts(given, ENV))["m"]


def test_an_offering_joins_the_settings_and_the_provider_s_row():
    sold = OPENAI.models[0]
    (offering,) = sell(f"openai/{sold.id}")
    assert (offering.id, offering.provider, offering.upstream_model) == (
        f"openai/{sold.id}", "openai", sold.id,
    )  # fmt: skip
    assert offering.label == DataLabel("us", "OpenAI")
    assert not offering.label.on_premises
    assert offering.surfaces == frozenset({Surface.CHAT})
    dearest = max(sold.input_per_mtok, *(rule.input_per_mtok for rule in sold.exceptions))
    assert offering.price.input_micro_per_mtok == dearest * 1_000_000


def test_a_key_comes_from_the_row_s_variable_another_one_or_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("from-file\n")
    for access, key in (
        ({}, "sk-secret"), ({"api_key_env": "ZHIPU_API_KEY"}, "zp"),
        ({"api_key_file": file}, "from-file"),
    ):  # fmt: skip
        found = accounts(settings(providers=[{"id": "openai", **access}]), ENV)["openai"]
        assert found.api_key == key
        assert key not in repr(found)


def test_blanks_around_a_key_are_dropped():
    assert accounts(settings(), {"OPENAI_API_KEY": " sk\n"})["openai"].api_key == "sk"


@pytest.mark.parametrize(
    "env", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": " \n"}], ids=["none", "empty", "blank"]
)
def test_a_provider_without_a_key_refuses_to_start(env):
    with pytest.raises(SettingsError, match="OPENAI_API_KEY"):
        accounts(settings(), env)


@pytest.mark.parametrize("key", ["sk\r\nx-evil: 1", "密钥", "sk\x00"])
def test_a_key_no_header_can_carry_refuses_to_start_without_an_echo(key):
    with pytest.raises(SettingsError, match="header") as caught:
        accounts(settings(), {"OPENAI_API_KEY": key})
    assert key not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"], ids=str)
def test_a_key_file_that_holds_none_refuses_to_start(tmp_path, content):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"providers\.openai"):
        accounts(settings(providers=[{"id": "openai", "api_key_file": file}]), ENV)


def test_an_unknown_provider_is_named_beside_the_known_ones():
    with pytest.raises(SettingsError, match=r"'opnai'.*openai"):
        accounts(settings(providers=[{"id": "opnai"}]), ENV)


def test_an_address_in_the_settings_replaces_the_row_s():
    given = settings(providers=[{"id": "openai", "base_url": "http://127.0.0.1:1"}])
    assert accounts(given, ENV)["openai"].base_url == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("text", "words"),
    [("zhipu-cn/glm-5", "not listed"), ("openai/gpt-0", "sells no"), ("openai", "sells no"),
     ("", "not listed")],
)  # fmt: skip
def test_an_offering_nobody_sells_is_named(text, words):
    with pytest.raises(SettingsError, match=words) as caught:
        sell(text)
    assert repr(text) in str(caught.value)


def row(tmp_path, **sold):
    model = {"id": "m", "context_tokens": 1, "source": "here", "as_of": "2026-01-01", **sold}
    data = {
        "id": "mine", "name": "Mine", "jurisdiction": "cn", "operator": "Me",
        "base_url": "https://x", "api_key_env": "OPENAI_API_KEY", "models": [model],
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    return sell("mine/m", providers=[{"id": "mine"}], providers_dir=tmp_path)[0].price


def test_an_unknown_price_refuses_to_start(tmp_path):
    with pytest.raises(SettingsError, match="price is unknown"):
        row(tmp_path, input_per_mtok="1")


def test_free_must_be_said(tmp_path):
    price = row(tmp_path, free=True, currency="CNY")
    assert price.currency == "CNY"
    assert price.input_micro_per_mtok == price.output_micro_per_mtok == 0


def test_without_a_price_of_their_own_cached_tokens_cost_the_full_one(tmp_path):
    assert row(tmp_path, input_per_mtok="1", output_per_mtok="2").cached_micro_per_mtok == 1_000_000
    price = row(tmp_path, input_per_mtok="1", output_per_mtok="2", cached_per_mtok="0")
    assert price.cached_micro_per_mtok == 0


def test_a_broken_row_is_a_settings_error(tmp_path):
    (tmp_path / "x.yaml").write_text("id: [")
    with pytest.raises(SettingsError, match=r"x\.yaml"):
        accounts(settings(providers_dir=tmp_path), ENV)


@pytest.mark.parametrize(
    ("host", "url", "is_ours"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080/v1", True),
        ("127.0.0.1", "http://localhost:8080/v1", True),
        ("0.0.0.0", "http://127.0.0.1:8080/v1", True),
        ("10.0.0.7", "http://10.0.0.7:8080/v1", True),
        ("127.0.0.1", "http://127.0.0.1:9100/v1", False),
        ("10.0.0.7", "http://127.0.0.1:8080/v1", False),
        ("127.0.0.1", "https://api.example.com/v1", False),
    ],
)
def test_a_provider_that_is_this_gateway_refuses_to_start(host, url, is_ours):
    given = settings(gateway={"host": host}, providers=[{"id": "openai", "base_url": url}])
    if is_ours:
        with pytest.raises(SettingsError, match="own address"):
            accounts(given, ENV)
    else:
        assert accounts(given, ENV)["openai"].base_url == url


# -- weights and tiers

GLM = {"id": "zai-intl"}


def sold_as(model, *texts, env=None, **more):
    given = settings([{"name": "m", "offerings": texts, **model}], [GLM], **more)
    return offerings(given, accounts(given, {"ZAI_API_KEY": "k"} if env is None else env))


TIERS = {
    "same weights": ({"weights": "zai-org/GLM-5.3"}, (1, "same")),
    "the same in another format": (
        {"weights": "zai-org/GLM-5.3-FP8", "weights_also": ["zai-org/GLM-5.3"]}, (1, "same"),
    ),
    "other weights": ({"weights": "Qwen/Qwen3-32B"}, (2, "tier2")),
    "other family": ({"weights": "Qwen/Qwen3-32B", "tiers": {"zai-intl/glm-5.3": 3}}, (3, "tier3")),
    "no weights named": ({}, (1, "declared")),
    "no weights, and said to be others": ({"tiers": {"zai-intl/glm-5.3": 2}}, (2, "tier2")),
}  # fmt: skip


@pytest.mark.parametrize(("model", "expected"), TIERS.values(), ids=TIERS)
def test_a_tier_follows_from_the_weights_or_the_owner_s_word(model, expected):
    (row,) = sold_as(model, "zai-intl/glm-5.3")["m"]
    assert (row.tier, weights(row)) == expected


def test_the_same_weights_come_first_and_the_given_order_holds_within_a_tier():
    model = {"weights": "zai-org/GLM-5.3-Flash"}
    rows = sold_as(model, "zai-intl/glm-5.3", "zai-intl/glm-5.2", "zai-intl/glm-5.3-flash")["m"]
    assert [row.upstream_model for row in rows] == ["glm-5.3-flash", "glm-5.3", "glm-5.2"]


def test_what_cannot_be_turned_from_thinking_says_so():
    fixed, free = sold_as({}, "zai-intl/glm-5.3", "zai-intl/glm-5.2")["m"]
    assert (fixed.is_thinking, free.is_thinking) == (True, False)


WRONG = {
    "twice": ({"offerings": ["zai-intl/glm-5.2"] * 2}, "named twice"),
    "not offered": ({"tiers": {"zai-intl/glm-5": 2}}, "not among its offerings"),
    "contradicted": (
        {"weights": "Qwen/Qwen3-32B", "tiers": {"zai-intl/glm-5.2": 1}}, "names the weights zai",
    ),
    "nothing to tell": (
        {"offerings": [], "adapters": [{"name": "a", "elsewhere": "base", "prompt": "x"}]},
        "needs offerings",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "message"), WRONG.values(), ids=WRONG)
def test_a_contradiction_about_weights_refuses_to_start(model, message):
    given = {"offerings": ["zai-intl/glm-5.2"]} | model
    with pytest.raises(SettingsError, match=message):
        sold_as({k: v for k, v in given.items() if k != "offerings"}, *given["offerings"])


def test_an_adapter_goes_where_its_settings_say_and_nowhere_else():
    adapters = [
        {"name": "waits"}, {"name": "closed", "elsewhere": "refuse"},
        {"name": "tuned", "elsewhere": "tune", "tune": "zai-intl/glm-5.1"},
        {"name": "told", "elsewhere": "base", "prompt": "You sum up letters."},
    ]  # fmt: skip
    rows = sold_as({"adapters": adapters, "weights": "zai-org/GLM-5.2"}, "zai-intl/glm-5.2")
    assert rows.keys() == {"m", "tuned", "told"}
    (tuned,), (told,) = rows["tuned"], rows["told"]
    assert (tuned.upstream_model, weights(tuned)) == ("glm-5.1", "declared")
    assert (told.upstream_model, weights(told)) == ("glm-5.2", "tier2")
    assert told.system == "You sum up letters."


@pytest.mark.parametrize("elsewhere", ["tune", "base"])
def test_an_adapter_without_what_its_way_needs_refuses_to_start(elsewhere):
    with pytest.raises(ValueError, match="needs `"):
        settings([{"name": "m", "adapters": [{"name": "a", "elsewhere": elsewhere}]}])
