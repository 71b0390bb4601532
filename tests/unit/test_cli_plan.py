"""What `up` would run: models, tenant, effective settings, commands."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ballast import identity, plan
from ballast.environs import by_part
from ballast.prepare import prepare
from ballast.problem import ProblemError
from models import provider
from serving.auth import callers, digest
from serving.engine.spec import SpecError
from serving.settings import Engine, KeySettings, Ledger, Model, ProviderAccess, Settings

ROWS = provider.load(provider.FOLDER)
OWN = Model(name="own", aliases=("mine",), profile="instant", engine=Engine(source="a/b"))


def test_the_embedded_model_is_served_unless_models_are_configured() -> None:
    assert [m.name for m in plan.choose_models(Settings(), plan.Wish(), ROWS)] == [plan.DEMO_MODEL]
    configured = Settings(models=(OWN,))
    assert plan.choose_models(configured, plan.Wish(), ROWS) == (OWN,)
    assert plan.choose_models(configured, plan.Wish(model="mine"), ROWS) == (OWN,)


def test_a_folder_or_hub_id_becomes_a_model() -> None:
    (model,) = plan.choose_models(Settings(), plan.Wish(model="Qwen/Qwen3-8B"), ROWS)
    assert model.name == "qwen3-8b"
    assert model.engine is not None
    assert model.engine.source == "Qwen/Qwen3-8B"


def test_a_model_that_is_nothing_known_is_refused() -> None:
    with pytest.raises(ProblemError) as caught:
        plan.choose_models(Settings(), plan.Wish(model="nonsense"), ROWS)
    assert "--model" in caught.value.what
    assert caught.value.exit_code == 3


def test_an_unknown_provider_is_refused_by_name() -> None:
    settings = Settings(providers=(ProviderAccess(id="nowhere"),))
    with pytest.raises(ProblemError, match="nowhere"):
        plan.check_providers(settings, ROWS)


def test_the_owner_administers_with_a_key_made_once_unless_the_settings_name_another(
    tmp_path: Path,
) -> None:
    own = identity.ensure(tmp_path)
    file = tmp_path / identity.ADMIN_KEY
    assert file.read_text() == own.admin_key == identity.ensure(tmp_path).admin_key
    assert own.admin_key.startswith("ba-")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    prepared = prepare(Settings(state_dir=tmp_path), own, plan.Wish(has_engine=False))
    (owner,) = prepared.settings.administrators
    mark = digest((tmp_path / "pepper").read_bytes(), own.admin_key.encode()).hex()
    assert (owner.id, owner.role, owner.hmac) == ("owner", "admin", mark)
    theirs = owner.model_copy(update={"hmac": "0" * 64})
    settings = Settings(state_dir=tmp_path, administrators=(theirs,))
    assert plan.with_owner(settings, b"x") == settings


def test_the_demo_tenant_stays_on_the_premises_without_a_provider() -> None:
    (tenant,) = plan.with_demo_tenant(Settings(), ROWS).tenants
    assert (tenant.residency, tenant.jurisdictions) == ("premises", ())


def test_the_demo_tenant_may_go_where_the_provider_is_and_no_further() -> None:
    settings = Settings(providers=(ProviderAccess(id="deepseek"),))
    (tenant,) = plan.with_demo_tenant(settings, ROWS).tenants
    assert (tenant.residency, tenant.jurisdictions) == ("named", (ROWS["deepseek"].jurisdiction,))
    (model,) = plan.choose_models(settings, plan.Wish(), ROWS)
    assert model.offerings == (plan.cheapest(ROWS["deepseek"]),)


def test_the_effective_settings_can_be_read_back(tmp_path: Path) -> None:
    own = identity.ensure(tmp_path)
    wish = plan.Wish(port=9999, dashboard_port=1234)
    settings = plan.effective(Settings(), (OWN,), own, wish, tmp_path / "ray_token")
    again = Settings.model_validate(settings.model_dump(mode="json", exclude_none=True))
    assert again == settings
    assert again.gateway.port == 9999
    assert again.gateway.drain_s <= plan.DRAIN_S_MAX
    assert again.fleet.serve_url == "http://127.0.0.1:1234"
    spec = plan.cluster(again, wish)
    assert [(e.model_name, e.model_path) for e in spec.engines] == [("own", "a/b")]


def test_without_an_engine_ray_is_neither_asked_nor_started(tmp_path: Path) -> None:
    own = identity.ensure(tmp_path)
    wish = plan.Wish(has_engine=False)
    settings = plan.effective(Settings(), (OWN,), own, wish, tmp_path / "t")
    assert settings.fleet.serve_url == ""
    environs = by_part({}, settings, ROWS)
    parts = plan.parts(tmp_path, tmp_path, settings, environs, has_engine=False)
    assert [part.name for part in parts] == ["gateway", "controller"]


def test_a_providers_key_goes_to_the_gateway_alone(tmp_path: Path) -> None:
    own = identity.ensure(tmp_path)
    access = ProviderAccess(id="deepseek", api_key_env="MY_KEY")
    settings = plan.effective(
        Settings(providers=(access,)), (OWN,), own, plan.Wish(), tmp_path / "t"
    )
    given = {
        "MY_KEY": "k", "OPENAI_API_KEY": "o", "DEEPSEEK_API_KEY": "d", "BALLAST_GATEWAY__PORT": "1",
        "PATH": "p", "LC_ALL": "C", "PYTHONPATH": "q", "HF_TOKEN": "h", "AWS_SECRET": "a",
    }  # fmt: skip
    environs = by_part(given, settings, ROWS)
    parts = plan.parts(tmp_path, tmp_path, settings, environs, has_engine=True)
    plain = {"PATH", "LC_ALL", "PYTHONPATH", "PYTHONUNBUFFERED"}
    assert {part.name: set(part.environ) for part in parts} == {
        "gateway": plain | {"MY_KEY"},
        "engine": plain | {"HF_TOKEN", "AWS_SECRET"},
        "controller": plain,
    }
    assert "MY_KEY" not in repr(parts)


def test_a_key_in_a_file_takes_no_variable_along() -> None:
    access = ProviderAccess(id="deepseek", api_key_file=Path("k"), api_key_env="MY_KEY")
    environs = by_part(
        {"MY_KEY": "k", "DEEPSEEK_API_KEY": "d"}, Settings(providers=(access,)), ROWS
    )
    assert all(set(environ) == {"PYTHONUNBUFFERED"} for environ in environs.values())


def test_the_ledgers_password_goes_to_the_gateway_alone() -> None:
    settings = Settings(ledger=Ledger(url="postgresql://u@h/d", password_env="BOOKS"))
    environs = by_part({"BOOKS": "k", "PGPASSWORD": "p", "HF_TOKEN": "h"}, settings, ROWS)
    assert {name: set(environ) - {"PYTHONUNBUFFERED"} for name, environ in environs.items()} == {
        "gateway": {"BOOKS", "PGPASSWORD"},
        "engine": {"HF_TOKEN"},
        "controller": set(),
    }


def test_no_engine_is_started_when_no_model_has_one(tmp_path: Path) -> None:
    bought = Model(name="bought", offerings=("deepseek/deepseek-flash",))
    settings = Settings(models=(bought,), providers=(ProviderAccess(id="deepseek"),))
    prepared = prepare(settings, identity.ensure(tmp_path), plan.Wish())
    assert not prepared.has_engine
    assert prepared.settings.fleet.serve_url == ""


def test_key_and_pepper_files_of_the_settings_are_used(tmp_path: Path) -> None:
    settings = Settings(keys_file=tmp_path / "own.yaml", pepper_file=tmp_path / "own")
    own = identity.ensure(tmp_path / "state")
    found = plan.effective(settings, (OWN,), own, plan.Wish(), tmp_path / "t")
    assert (found.keys_file, found.pepper_file) == (tmp_path / "own.yaml", tmp_path / "own")


def test_the_deployment_has_an_id_of_its_own_unless_one_is_named(tmp_path: Path) -> None:
    own, other = identity.ensure(tmp_path / "one"), identity.ensure(tmp_path / "two")
    made = plan.effective(Settings(), (OWN,), own, plan.Wish(), tmp_path / "t")
    assert made.deployment_id == own.deployment_id != other.deployment_id
    named = plan.effective(Settings(deployment_id="us"), (OWN,), own, plan.Wish(), tmp_path / "t")
    assert named.deployment_id == "us"


def test_a_folder_is_taken_whole_whatever_its_name_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Mine").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("Mine", "./Mine", str(tmp_path / "Mine")):
        (model,) = plan.choose_models(Settings(), plan.Wish(model=name), ROWS)
        assert model.name == "mine"
        assert model.engine is not None
        assert model.engine.source == str(tmp_path / "Mine")


def test_the_curl_is_one_line_that_starts_with_curl() -> None:
    line = plan.curl("http://127.0.0.1:8080/v1", "bl-x", "m")
    assert line.startswith("curl http://127.0.0.1:8080/v1/chat/completions ")
    assert "\n" not in line


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    first = identity.ensure(tmp_path / "new")
    again = identity.ensure(tmp_path / "new")
    assert first.demo_key == again.demo_key
    for name in ("secret", "pepper", "demo-key", "keys.yaml", "deployment-id"):
        assert stat.S_IMODE((tmp_path / "new" / name).stat().st_mode) == 0o600


def test_the_demo_key_opens_the_demo_tenant(tmp_path: Path) -> None:
    import yaml

    own = identity.ensure(tmp_path)
    keys = [KeySettings.model_validate(row) for row in yaml.safe_load(own.keys_file.read_text())]
    tenants = plan.with_demo_tenant(Settings(), ROWS).tenants
    mark = digest(own.pepper_file.read_bytes(), own.demo_key.encode())
    caller = callers(keys, tenants, datetime.now(UTC)).by_digest[mark]
    assert caller is not None
    assert caller.policy.latency_class == "patient"
    assert caller.policy.overflow == "allowed"
    assert caller.policy.exposure == "full"


def test_a_state_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProblemError, match="state folder"):
        identity.ensure(tmp_path / "file" / "below")


def cluster_of(tmp_path: Path, model: dict[str, Any], **settings: Any) -> Any:
    """The cluster that settings with one model become."""
    tree = {"models": [model], "fleet": {"secret_file": str(tmp_path / "secret")}} | settings
    return plan.cluster(Settings.model_validate(tree), plan.Wish())


def test_an_engine_may_be_given_any_field_of_its_spec(tmp_path: Path) -> None:
    probe = {"prompt": "2+2?", "expect": "contains:4"}
    model = {"name": "m", "engine": {"spec": {"probe": probe, "load": "prefetch"}}}
    weights = {"huggingface_url": "https://mirror.example", "is_offline": True}
    (engine,) = cluster_of(tmp_path, model, weights=weights).engines
    assert (engine.probe.expect, engine.load) == ("contains:4", "prefetch")
    assert engine.weights.huggingface_url == "https://mirror.example"


@pytest.mark.parametrize(
    ("spec", "weights", "words"),
    [
        ({"probee": {}}, {}, "probee"),
        ({"probe": {"expect": "?"}}, {}, "expect"),
        ({}, {"mirror": "x"}, "mirror"),
        ({}, {"huggingface_url": "ftp://x"}, "huggingface_url"),
    ],
)
def test_a_wrong_field_is_named_before_anything_starts(
    tmp_path: Path, spec: dict[str, Any], weights: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        cluster_of(tmp_path, {"name": "m", "engine": {"spec": spec}}, weights=weights)


def test_adapters_with_a_source_are_loaded_and_others_get_room(tmp_path: Path) -> None:
    adapters = [{"name": "one", "source": "/a", "sha256": "0" * 64}, {"name": "later"}]
    model = {"name": "m", "engine": {}, "adapters": adapters}
    (engine,) = cluster_of(tmp_path, model).engines
    assert [a.name for a in engine.adapters] == ["one"]
    assert engine.takes_adapters
    later = {"name": "m", "engine": {}, "adapters": [{"name": "later"}]}
    (engine,) = cluster_of(tmp_path, later).engines
    assert engine.takes_adapters
    (plain,) = cluster_of(tmp_path, {"name": "m", "engine": {}}).engines
    assert not plain.takes_adapters
