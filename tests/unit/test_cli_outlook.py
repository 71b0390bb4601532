"""Would the gateway start with these settings, and could anything answer its callers?"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ballast import identity, plan, preflight
from ballast.cli import app
from ballast.doctor import Level
from ballast.outlook import Terms, outlook
from ballast.prepare import Prepared, prepare
from serving.ledger.sqlite import SqliteLedger
from serving.records import Caller, Overflow, Policy, Residency, ResidencyLevel
from serving.settings import Engine, Fleet, Model, Pool, ProviderAccess, Settings, StaticReplica

ANYWHERE = Residency(ResidencyLevel.ANYWHERE)
PREMISES = Residency(ResidencyLevel.PREMISES)
PROVIDERS = (ProviderAccess(id="api"),)
ENGINE = Fleet(serve_url="http://127.0.0.1:8265")
LISTED = Fleet(static=(StaticReplica(model="m", url="http://127.0.0.1:1"),))
CLOUD = Fleet(serve_url="http://127.0.0.1:8265", pool=Pool(jurisdiction="sg", on_premises=False))


def caller(key: str, residency: Residency = ANYWHERE, **policy: Any) -> Caller:
    values = {"residency": residency, "overflow": Overflow.ALLOWED} | policy
    return Caller(key, f"tenant-{key}", "default", Policy(**values))


@pytest.mark.parametrize(
    ("fleet", "providers", "callers", "is_sold", "words", "remedy"),
    [
        (Fleet(), (), [caller("a")], False,
         "calls of m: no engine is started or listed, and no provider is", "id: deepseek"),
        (Fleet(), PROVIDERS, [caller("a")], False, "names no offering", "offerings"),
        (Fleet(), PROVIDERS, [caller("a", PREMISES)], True,
         "the residency of tenant-a admits none of api/big (us)", "residency"),
        (Fleet(), PROVIDERS, [caller("a", overflow=Overflow.NEVER)], True,
         "key a may not overflow", "overflow: allowed"),
        (Fleet(), PROVIDERS, [caller("a", is_load_test=True)], True, "key a may not overflow", ""),
        (Fleet(), PROVIDERS, [caller("a"), caller("b", PREMISES)], True,
         "nothing can answer key b calling m", ""),
        (ENGINE, PROVIDERS, [caller("a", PREMISES)], True, "m cannot overflow", "residency"),
        (CLOUD, (), [caller("a", PREMISES)], False, "the engines stand in sg (fleet.pool)", ""),
        (ENGINE, (), [caller("a", models=frozenset({"x"}))], False, "no key may call m", "models"),
        (ENGINE, (), [], False, "no key is valid", "add keys"),
    ],
    ids=["nothing at all", "no offering", "residency", "overflow never", "load test only",
         "one of two", "engine but no overflow", "engines abroad", "nobody's model", "no keys"],
)  # fmt: skip
def test_whom_nothing_could_answer_is_warned_of(
    make, fleet, providers, callers, is_sold, words, remedy
) -> None:
    settings = Settings(models=(Model(name="m"),), fleet=fleet, providers=providers)
    sold = {"m": (make.offering(),)} if is_sold else {}
    (found,) = outlook(settings, Terms(sold, callers))
    assert found.level is Level.WARN
    assert words in found.text
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("fleet", "callers", "is_sold"),
    [(ENGINE, [caller("a", PREMISES)], False), (LISTED, [caller("a", PREMISES)], False),
     (Fleet(), [caller("a")], True), (ENGINE, [caller("a"), caller("b", PREMISES)], True)],
    ids=["Ray", "listed engine", "API", "both"],
)  # fmt: skip
def test_what_can_be_answered_needs_no_warning(make, fleet, callers, is_sold) -> None:
    settings = Settings(models=(Model(name="m"),), fleet=fleet, providers=PROVIDERS)
    sold = {"m": (make.offering(),)} if is_sold else {}
    assert [f.level for f in outlook(settings, Terms(sold, callers))] == [Level.OK]


def test_of_two_models_the_one_without_an_engine_is_warned_of() -> None:
    models = (Model(name="m", engine=Engine()), Model(name="other"))
    (found,) = outlook(Settings(models=models, fleet=ENGINE), Terms({}, [caller("a")]))
    assert "nothing can answer calls of other" in found.text


def test_a_key_that_lies_unused_in_the_environment_is_pointed_at() -> None:
    settings = Settings(models=(Model(name="m"),))
    (found,) = outlook(settings, Terms({}, [caller("a")]), {"ZHIPU_API_KEY": "zhipu-cn"})
    assert "ZHIPU_API_KEY is set here" in found.remedy
    assert "zhipu-cn" in found.remedy


def test_many_tenants_are_not_all_listed(make) -> None:
    settings = Settings(models=(Model(name="m"),), providers=PROVIDERS)
    callers = [caller(f"{number:03d}", PREMISES) for number in range(100)]
    (found,) = outlook(settings, Terms({"m": (make.offering(),)}, callers))
    assert "and 95 more" in found.text


def prepared(state: Path, settings: Settings, **wish: Any) -> Prepared:
    settings = settings.model_copy(update={"state_dir": state})
    return prepare(settings, identity.ensure(state), plan.Wish(**wish))


def examined(given: Prepared) -> dict[str, Any]:
    return {finding.subject: finding for finding in preflight.examine(given)}


def test_the_gateways_own_refusal_is_found_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = Settings(providers=(ProviderAccess(id="deepseek", api_key_env="MY_KEY"),))
    found = examined(prepared(tmp_path, bought, has_engine=False))["settings"]
    assert found.level is Level.STOP
    assert "providers.deepseek: set MY_KEY" in found.text
    monkeypatch.setenv("MY_KEY", "k")
    found = examined(prepared(tmp_path, bought, has_engine=False))
    assert (found["settings"].level, found["answers"].level) == (Level.OK, Level.OK)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("keys.yaml", "[{id: x", "keys.yaml"), ("pepper", "short", "fewer than 32 bytes"),
     ("keys.yaml", "[{id: a, tenant: nobody, hmac: '" + "0" * 64 + "'}]", "tenant 'nobody'")],
    ids=["broken key file", "short pepper", "key of no tenant"],
)  # fmt: skip
def test_a_damaged_state_folder_is_found(tmp_path: Path, name: str, text: str, words: str) -> None:
    identity.ensure(tmp_path)
    (tmp_path / name).write_text(text)
    found = examined(prepared(tmp_path, Settings(), has_engine=False))["settings"]
    assert found.level is Level.STOP
    assert words in found.text


def test_names_that_contradict_each_other_are_found(tmp_path: Path) -> None:
    twice = Settings(models=(Model(name="m"), Model(name="n", aliases=("m",))))
    found = examined(prepared(tmp_path, twice, has_engine=False))["settings"]
    assert found.level is Level.STOP


def test_a_ledger_of_a_newer_version_stops_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    given = prepared(tmp_path, Settings(), has_engine=False)
    assert "ledger" not in examined(given)
    path = tmp_path / "ledger.sqlite"
    SqliteLedger.open(path).close()
    assert "ledger" not in examined(given)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert examined(given)["ledger"].level is Level.STOP
    path.write_bytes(b"no database" * 1000)
    assert examined(given)["ledger"].level is Level.WARN


def test_the_doctor_makes_no_state_before_the_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for port in ("GATEWAY__PORT", "GATEWAY__OPS_PORT", "CONTROLLER__OPS_PORT"):
        monkeypatch.setenv(f"BALLAST_{port}", "0")
    result = CliRunner().invoke(app, ["doctor", "--no-engine"])
    assert result.exit_code == 0, result.output
    assert "nothing can answer calls" in result.output
    assert not (tmp_path / "state").exists()


def test_the_demo_key_is_known_unless_the_keys_are_the_users_own(tmp_path: Path) -> None:
    own = identity.ensure(tmp_path / "state")
    given = prepared(tmp_path / "state", Settings(), has_engine=False)
    assert preflight.knows(given.settings, own.demo_key)
    (tmp_path / "mine.yaml").write_text("[]")
    theirs = Settings(keys_file=tmp_path / "mine.yaml")
    given = prepared(tmp_path / "state", theirs, has_engine=False)
    assert not preflight.knows(given.settings, own.demo_key)
