"""A stage is a layer of settings below the user's, and says what it still lacks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from ballast import stage_doctor, staged, stages
from ballast.messages import chosen, tell, words
from ballast.problem import ProblemError
from ballast.running import asked_model
from ballast.stages import Keyed, Name
from models import provider
from serving.directory.store import opener
from serving.directory.values import build
from serving.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
ROWS = provider.load(provider.FOLDER)
BOTH = Keyed(("deepseek", "zhipu-cn"), ("openai",))
KEYS = ("DEEPSEEK_API_KEY",)


def tree(name: Name = Name.POC, found: Keyed = BOTH, **said: Any) -> dict[str, Any]:
    return stages.layered(stages.load(name), said, ROWS, found)


def lacking(name: Name, found: Keyed = BOTH, **said: Any) -> dict[str, bool]:
    settings = Settings.model_validate(tree(name, found, **said))
    found_lacks = stages.lacks(name, settings, found, KEYS)
    return {lack.what.key.rpartition(".")[2]: lack.stops for lack in found_lacks}


@pytest.mark.parametrize("name", list(Name))
def test_each_stage_holds_settings_that_are_accepted(name: Name) -> None:
    settings = Settings.model_validate(tree(name))
    assert settings.tenants[0].residency == "mainland"
    assert stages.load(name).has_engine == (name is not Name.POC)


@pytest.mark.parametrize("name", list(Name))
def test_the_charts_profile_of_a_stage_says_the_same(name: Name) -> None:
    profile = yaml.safe_load((ROOT / f"deploy/helm/stages/{name}.yaml").read_text("utf-8"))
    assert profile["settings"] == stages.load(name).settings


def test_a_poc_serves_the_cheapest_model_of_each_mainland_provider() -> None:
    (model,) = Settings.model_validate(tree()).models
    assert model.engine is None
    assert model.name == stages.CHAT
    assert {name.partition("/")[0] for name in model.offerings} == set(BOTH.home)
    prices = {f"{r.id}/{m.id}": m for r in ROWS.values() for m in r.models}
    assert model.context_tokens == min(prices[name].context_tokens for name in model.offerings)


def test_providers_abroad_need_a_tenant_that_lets_its_data_go() -> None:
    assert {one["id"] for one in tree()["providers"]} == set(BOTH.home)
    free = tree(tenants=[{"id": "demo", "residency": "anywhere"}])
    assert {one["id"] for one in free["providers"]} == {*BOTH.home, "openai"}


def test_what_the_user_said_wins_over_the_stage() -> None:
    said = tree(ledger={"utc_offset_hours": 0}, providers=[{"id": "deepseek"}])
    assert said["ledger"] == {"utc_offset_hours": 0}
    assert said["providers"] == [{"id": "deepseek"}]
    own = [{"name": "mine", "offerings": ["deepseek/deepseek-flash"]}]
    assert tree(models=own)["models"] == own


def test_a_key_in_the_environment_switches_its_provider_on() -> None:
    found = stages.keyed(ROWS, {"DEEPSEEK_API_KEY", "OPENAI_API_KEY", "PATH"})
    assert found == Keyed(("deepseek",), ("openai",))


def test_a_poc_without_any_key_cannot_begin() -> None:
    assert lacking(Name.POC, Keyed((), ())) == {"key": True}
    assert lacking(Name.POC, Keyed((), ("openai",))) == {"abroad": True}


def test_one_provider_alone_is_told_to_have_no_stand_in() -> None:
    assert lacking(Name.POC, Keyed(("deepseek",), ())) == {"second": False}
    assert lacking(Name.POC) == {}


def test_providers_count_as_stand_ins_before_a_model_names_them() -> None:
    assert "second" not in lacking(Name.BETA)
    assert lacking(Name.BETA, Keyed(("deepseek",), ()))["second"] is False


def test_beta_and_scale_name_what_is_half_configured() -> None:
    beta = {"key", "pilot", "rent", "terms", "database"}
    assert set(lacking(Name.BETA, Keyed((), ()))) == beta
    scale = lacking(Name.SCALE, controller={"is_dry_run": True})
    assert {"acting", "pilot", "rent", "login", "copy"} <= set(scale)
    assert not any(scale.values())


def test_beta_with_all_of_it_lacks_nothing() -> None:
    rented = {"model": "m", "gpu": "h100-80", "gpu_hour": "14", "currency": "CNY", "source": "x"}
    model = {
        "name": "m", "profile": "cpu-embedded", "engine": {"source": "/models/m"},
        "offerings": ["deepseek/deepseek-flash", "zhipu-cn/glm-5"],
    }  # fmt: skip
    found = lacking(
        Name.BETA, models=[model], controller={"rented": [rented]},
        guard={"terms_dir": "/etc/terms"}, ledger={"url": "postgresql://b@db/ballast"},
    )  # fmt: skip
    assert found == {}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_stop_names_the_keys_and_the_way_to_try_without(language: Any, tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as caught:
        staged.up("poc", None, staged.plan.Wish(), is_try=False)
    what, remedy = caught.value.told(language)
    assert "API_KEY" in what
    assert "--try" in remedy


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for row in ROWS.values():
        monkeypatch.delenv(row.api_key_env, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_a_word_that_is_no_stage_is_refused() -> None:
    with pytest.raises(ProblemError, match="no stage 'alpha'"):
        staged.stage_of("alpha")


def test_trying_brings_two_providers_that_only_pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(staged.KEY_VARIABLE, "")  # put back after the test
    found = staged.collect(staged.Wanted(Name.POC, None, True), {})
    (part,) = found.parts
    assert part.name == "provider"
    assert [lack for lack in found.lacks if lack.stops] == []
    assert all(
        name.startswith(stages.SIMULATED_PREFIX) for name in found.settings.models[0].offerings
    )
    told = "\n".join(staged.notes(staged.Wanted(Name.POC, None, True), found, words("en")))
    assert "invented" in told
    assert "CNY 100.00 a month" in told


def test_trying_beside_own_rows_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(f"providers_dir: {tmp_path}\n", "utf-8")
    with pytest.raises(ProblemError, match="providers_dir"):
        staged.collect(staged.Wanted(Name.POC, config, True), {})


def test_the_stages_budget_is_made_once_and_then_left_alone(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    stage = stages.load(Name.POC)
    staged.make_budget(settings, stage)
    staged.make_budget(settings, stage)
    with closing(opener(settings)()) as store:
        head, documents = store.read()
        (budget,) = build(head.number, documents).budgets.values()
        history = store.history()
    assert (budget.id, budget.limit_micro, budget.kind) == ("poc-month", 100_000_000, "hard")
    assert len(history) == 1


def doctored(name: str, config: Path | None = None) -> list[tuple[str, str]]:
    found = stage_doctor.findings(name, config, staged.plan.Wish(has_engine=False))
    return [
        (str(f.level), f.text.values["what"].key)  # type: ignore[attr-defined]
        for f in found if f.subject == "stage" and f.level != "ok"
    ]  # fmt: skip


def test_the_doctor_names_what_a_stage_lacks_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert doctored("poc") == [("stop", "stage.lacks.key")]
    monkeypatch.setenv("DEEPSEEK_API_KEY", "x")
    assert doctored("poc") == [("warn", "stage.lacks.second")]
    found = list(stage_doctor.findings("scale", None, staged.plan.Wish(has_engine=False)))
    lacking_ = [f for f in found if f.subject == "stage"][1:]
    assert len(lacking_) == 8
    for language in ("zh", "en"):
        assert all(tell(f.remedy, language) for f in lacking_)  # type: ignore[arg-type]
    assert {f.subject for f in found} > {"stage", "python", "state"}


def test_the_doctor_says_so_where_a_stage_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "x")
    monkeypatch.setenv("ZHIPU_API_KEY", "y")
    first, second, *_ = stage_doctor.findings("poc", None, staged.plan.Wish())
    assert (first.level, second.text) == ("ok", "has all that this stage wants")
    assert "milestones" in second.remedy


def test_a_stage_that_is_none_is_refused_by_the_doctor_too() -> None:
    with pytest.raises(ProblemError, match="no stage 'gamma'"):
        doctored("gamma")


def test_chat_asks_the_model_of_the_stage_that_runs_where_its_file_names_none(
    tmp_path: Path,
) -> None:
    given = Settings.model_validate({"state_dir": str(tmp_path)})
    assert asked_model(given, "demo") == "demo"
    up = {"state_dir": str(tmp_path), "models": [{"name": stages.CHAT}]}
    (tmp_path / "up.yaml").write_text(yaml.safe_dump(up), "utf-8")
    assert asked_model(given, "demo") == stages.CHAT
    own = Settings.model_validate({"models": [{"name": "mine"}], "state_dir": str(tmp_path)})
    assert asked_model(own, "demo") == "mine"


def test_the_reason_of_a_stages_budget_is_in_the_language_of_whoever_starts_it(
    tmp_path: Path,
) -> None:
    made = Settings.model_validate({"state_dir": str(tmp_path)})
    with chosen.speaking("zh"):
        staged.make_budget(made, stages.load(Name.POC))
    with closing(opener(made)()) as store:
        (entry,) = store.history(0, 10)
    assert "阶段自带的预算" in entry.data.decode()
