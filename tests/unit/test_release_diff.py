"""What an upgrade changes and restarts, from two rendered manifests."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ballast.cli import app
from ballast.doctor import Level
from ballast.release_diff import NotAManifestError, changes, consequences, lines

OLD: list[dict[str, Any]] = [
    {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "b-gateway"},
        "spec": {
            "replicas": 3, "strategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"annotations": {"checksum/settings": "1"}},
                "spec": {"terminationGracePeriodSeconds": 640,
                         "containers": [{"name": "gateway", "image": "gw:1"}]},
            },
        },
    },
    {"kind": "ConfigMap", "metadata": {"name": "b-settings"},
     "data": {"settings.yaml": "models:\n- {name: a, aliases: [chat]}\n"}},
    {"kind": "RayCluster", "metadata": {"name": "b-engines"},
     "spec": {"workerGroupSpecs": [{"groupName": "h100", "replicas": 2, "image": "e:1"}]}},
    {"kind": "PersistentVolumeClaim", "metadata": {"name": "b-state"}, "spec": {}},
]  # fmt: skip


def text(rows: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(rows)


def changed(edit: Any) -> list[dict[str, Any]]:
    rows = copy.deepcopy(OLD)
    edit(rows)
    return rows


def told(edit: Any) -> list[tuple[str, Level, str]]:
    found = changes(text(OLD), text(changed(edit)))
    return [(one.subject, one.level, one.text) for one in consequences(found)]


def new_settings(rows: list[dict[str, Any]]) -> None:
    rows[0]["spec"]["template"]["metadata"]["annotations"]["checksum/settings"] = "2"
    rows[1]["data"]["settings.yaml"] = "models:\n- {name: a, aliases: []}\n- {name: b}\n"


def new_image(rows: list[dict[str, Any]]) -> None:
    rows[0]["spec"]["template"]["spec"]["containers"][0]["image"] = "gw:2"


def new_engine(rows: list[dict[str, Any]]) -> None:
    rows[2]["spec"]["workerGroupSpecs"][0]["image"] = "e:2"


def recreated(rows: list[dict[str, Any]]) -> None:
    rows[0]["spec"]["strategy"]["type"] = "Recreate"
    new_image(rows)


def test_the_same_changes_nothing():
    assert told(lambda _: None) == [("upgrade", Level.OK, "both manifests are the same")]


def test_new_settings_replace_pods_one_by_one_and_say_how_long():
    restart, quiet = told(new_settings)
    assert restart[:2] == ("restart", Level.WARN)
    assert "3 pods replaced one by one" in restart[2]
    assert "drains up to 640 s, so no stream is cut, 1920 s at most (its settings)" in restart[2]
    assert quiet[2] == "in force at once, nothing restarts: ConfigMap b-settings"


def test_settings_are_shown_key_by_key():
    shown = list(lines(changes(text(OLD), text(changed(new_settings)))))
    assert "           data.settings.yaml.models[a].aliases[0]: chat -> nothing" in shown
    assert "           data.settings.yaml.models[b]: nothing -> {'name': 'b'}" in shown
    assert not any("checksum" in line for line in shown)


def test_an_image_is_named_as_the_cause():
    assert "containers[gateway].image" in told(new_image)[0][2]


def test_one_pod_with_a_volume_leaves_a_gap():
    assert told(recreated)[0][:2] == ("gap", Level.WARN)


def test_engines_that_run_stay_and_the_way_to_move_calls_is_named():
    found = changes(text(OLD), text(changed(new_engine)))
    (one,) = consequences(found)
    assert "no engine is stopped" in one.text
    assert "ballast rollout" in one.remedy


def test_a_volume_or_a_cluster_that_leaves_is_said():
    found = told(lambda rows: (rows.pop(3), rows.pop(2)))
    assert found[0][1] is Level.STOP
    assert "goes on running, and costs" in found[1][2]


@pytest.mark.parametrize(
    ("given", "word"), [("images: {}", "images"), ("- 1", "list"), ("a: [", "no YAML")]
)
def test_what_is_no_manifest_is_refused(given, word):
    with pytest.raises(NotAManifestError, match=word):
        changes(given, text(OLD))


def test_the_doctor_shows_it(tmp_path: Path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(text(OLD))
    new.write_text(text(changed(new_settings)))
    command = ["doctor", "--upgrade", str(old), str(new)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "changed  ConfigMap b-settings" in shown.output
    assert "replaced one by one" in shown.output
    rows = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert [row["subject"] for row in rows] == ["restart", "at once"]
    new.write_text("- 1")
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code != 0
    assert "helm template" in refused.output
