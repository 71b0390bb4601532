"""The settings that the chart writes are settings that the gateway starts with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.chart import CHART, FILES
from deploy.helm_cli import Helm, objects
from deploy.trial import BETA, EXTERNAL, POC, SCALE, laid
from serving import settings as serving_settings
from serving.app import Gateway
from serving.records import DataLabel
from serving.settings import Controller, Settings, SettingsError

MODELS = [
    {"name": "chat", "card": "qwen3-32b", "variant": "fp8", "gpu": "h100-80",
     "offerings": ["deepseek/deepseek-flash"]},
]  # fmt: skip
WITH_MODELS = laid(SCALE, {"settings": {"models": MODELS}})


def written(found: list[dict[str, Any]], name: str = "ballast-settings") -> str:
    config = next(o for o in found if o["metadata"]["name"] == name and o["kind"] == "ConfigMap")
    return str(config["data"]["settings.yaml"])


def loaded(text: str, folder: Path) -> Settings:
    """As a pod reads it, with the mounted folders in a place of the test's."""
    (folder / "identity").mkdir(exist_ok=True)
    (folder / "providers").mkdir(exist_ok=True)
    for name in ("secret", "pepper"):
        (folder / "identity" / name).write_text("0123456789abcdef" * 4)
    for account in yaml.safe_load(text).get("providers", ()):
        (folder / "providers" / account["id"]).write_text("sk-test")
    path = folder / "settings.yaml"
    text = text.replace("/etc/ballast/", f"{folder}/").replace("/var/", f"{folder}/var-")
    path.write_text(text)
    return serving_settings.load(path, {"BALLAST_DEPLOYMENT_ID": "ballast-0123456789abcdef"})


@pytest.mark.parametrize(
    "values", [POC, BETA, WITH_MODELS, EXTERNAL], ids=["poc", "beta", "scale", "external"]
)
@pytest.mark.parametrize("line", ["3.17", "4.3"])
def test_the_gateway_takes_what_the_chart_writes(
    helms: dict[str, Helm], tmp_path: Path, values: Any, line: str
) -> None:
    text = written(objects(helms[line].template(values)))
    found = loaded(text, tmp_path)
    Gateway(found)
    assert found.deployment_id == "ballast-0123456789abcdef"


def test_hooks_read_the_settings_of_the_release_to_come(render: Any) -> None:
    found = render(BETA).objects
    text = written(found, "ballast-hooks")
    assert yaml.safe_load(text) == yaml.safe_load(written(found))


def test_both_helms_write_the_same_settings(helms: dict[str, Helm]) -> None:
    texts = {written(objects(helm.template(WITH_MODELS))) for helm in helms.values()}
    assert len({json.dumps(yaml.safe_load(text), sort_keys=True) for text in texts}) == 1


def test_large_numbers_stay_whole(render: Any, tmp_path: Path) -> None:
    limits = {"body_bytes_max": 33554432, "bodies_bytes_max": 1073741824}
    values = laid(POC, {"settings": {"gateway": {"limits": limits}}})
    found = loaded(written(render(values).objects), tmp_path)
    assert found.gateway.limits.bodies_bytes_max == 1073741824


def test_a_services_variables_would_refuse_the_start(tmp_path: Path) -> None:
    """Why pods get no variables of Services: one named ballast makes BALLAST_PORT."""
    with pytest.raises(SettingsError, match="port: no such setting"):
        serving_settings.load(None, {"BALLAST_PORT": "tcp://10.0.0.1:80"})


def test_a_models_card_is_laid_out_for_its_engine(render: Any, tmp_path: Path) -> None:
    found = loaded(written(render(WITH_MODELS).objects), tmp_path)
    model = found.models[0]
    assert model.engine is not None
    assert model.engine.source.startswith("hf:Qwen/")
    assert found.fleet.pool.operator == "acme"


def test_an_external_engine_may_stand_under_a_law_of_its_own(render: Any, tmp_path: Path) -> None:
    first, second = EXTERNAL["engines"]["external"]
    own = {"jurisdiction": "sg", "operator": "acme", "onPremises": True}
    values = laid(EXTERNAL, {"engines": {"external": [first | {"pool": own}, second]}})
    fleet = loaded(written(render(values).objects), tmp_path).fleet
    near, far = fleet.static
    assert (near.pool.label, far.pool) == (DataLabel("sg", "acme", on_premises=True), None)
    assert fleet.pool.jurisdiction == "us"
    alone = laid(EXTERNAL, {"engines": {"external": [first | {"pool": own}],
                                        "pool": {"jurisdiction": "", "operator": ""}}})  # fmt: skip
    written_alone = loaded(written(render(alone).objects), tmp_path)
    assert written_alone.fleet.static[0].pool.jurisdiction == "sg"


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_is_written_from_the_code_is_not_behind_it(name: str) -> None:
    assert (CHART / name).read_text("utf-8") == FILES[name](), "run: python -m deploy.chart"


def test_the_controller_is_told_its_lease_and_its_cluster(render: Any) -> None:
    told = yaml.safe_load(written(render(WITH_MODELS).objects))["controller"]
    acting = told.get("acting")
    assert (acting is not None) == ("acting" in Controller.model_fields)
    if acting is not None:
        assert acting["lease"] == {"kind": "kubernetes", "name": "ballast-controller"}
        assert acting["cluster"] == {"namespace": "llm", "ray_cluster": "ballast-engines"}
    assert "acting" not in yaml.safe_load(written(render(BETA).objects))["controller"]


def keys_of(schema: Any, values: Any, path: str = "") -> list[str]:
    """Keys of a values tree that the schema does not describe."""
    found = []
    for key, value in values.items():
        below = schema.get("properties", {}).get(key)
        where = f"{path}.{key}".strip(".")
        if below is None:
            found.append(where)
        elif isinstance(value, dict) and below.get("additionalProperties") is False:
            found += keys_of(below, value, where)
    return found


def test_the_schema_knows_every_key_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert keys_of(schema, values) == []
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(values)


def told(schema: Any, values: Any, path: str = "") -> list[str]:
    """Keys of the schema that values.yaml does not show."""
    found = []
    for key, below in schema.get("properties", {}).items():
        where = f"{path}.{key}".strip(".")
        if key not in values:
            found.append(where)
        elif isinstance(values[key], dict) and "properties" in below:
            found += told(below, values[key], where)
    return found


def test_values_show_every_key_that_the_schema_knows() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    # `settings` is another file's page; free maps have no keys of their own.
    missing = [key for key in told(schema, values) if not key.startswith("settings.")]
    assert missing == []
