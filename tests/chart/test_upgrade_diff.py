"""What `ballast doctor --upgrade` says of real renders of the chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ballast.doctor import Finding
from ballast.release_diff import changes, consequences, lines
from ballast.release_values import Rendering, manifests
from deploy.helm_cli import CHART, Helm
from deploy.trial import BETA, EXAMPLES, POC, SCALE, laid


def told(render: Any, old: Any, new: Any) -> tuple[list[str], dict[str, Finding]]:
    texts = [yaml.safe_dump_all(render(values).objects) for values in (old, new)]
    found = changes(*texts)
    return list(lines(found)), {
        f"{o.subject} {o.text.split(':')[0]}": o for o in consequences(found)
    }


def test_a_new_model_replaces_gateways_and_controller_and_no_engine(render: Any) -> None:
    models = [*BETA["settings"].get("models", []), {"name": "newer"}]
    new = laid(BETA, {"settings": {"models": models}})
    shown, found = told(render, BETA, new)
    assert any("models[newer]: nothing -> {'name': 'newer'}" in line for line in shown), shown
    assert {"restart ballast-gateway", "restart ballast-controller"} <= found.keys()
    assert "(its settings)" in found["restart ballast-gateway"].text
    assert not any(name.startswith("engines") for name in found)


def test_a_new_engine_image_stops_no_engine(render: Any) -> None:
    new = laid(SCALE, {"images": {"engine": {"tag": "9.9.9"}}})
    _, found = told(render, SCALE, new)
    assert "no engine is stopped" in found["engines RayCluster ballast-engines"].text


def test_one_pod_with_a_volume_is_said_to_leave_a_gap(render: Any) -> None:
    poc = laid(POC, {"gateway": {"state": {"kind": "pvc"}}})
    _, found = told(render, poc, laid(poc, {"gateway": {"podAnnotations": {"a": "b"}}}))
    assert "a gap of its start" in found["gap ballast-gateway"].text


def test_the_same_values_change_nothing(render: Any) -> None:
    assert told(render, SCALE, SCALE)[0] == []


@pytest.mark.parametrize("line", ["3.17", "4.3"])
def test_two_values_files_are_rendered_by_helm_itself(
    helms: dict[str, Helm], line: str, tmp_path: Path
) -> None:
    old, new = EXAMPLES / "api-only.yaml", tmp_path / "new.yaml"
    values = yaml.safe_load(old.read_text("utf-8"))
    new.write_text(yaml.safe_dump(laid(values, {"gateway": {"podLabels": {"team": "llm"}}})))
    rendering = Rendering(str(helms[line].binary), (CHART,), "llm/ballast")
    found = consequences(changes(*manifests((old, new), rendering)))
    assert [one.text.split(":")[0] for one in found] == ["ballast-gateway"]
