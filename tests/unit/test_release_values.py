"""Values files as they are rendered for `doctor --upgrade`, with programs that stand for Helm."""

from __future__ import annotations

from pathlib import Path

import pytest

from ballast.problem import ProblemError
from ballast.release_values import Rendering, is_values, manifests

OBJECT = "kind: ConfigMap\nmetadata: {name: a}\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("gateway: {replicas: 1}\n")
    new.write_text("gateway: {replicas: 2}\n")
    return old, new


@pytest.fixture
def charts(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("then", "now"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Chart.yaml").write_text("name: ballast\n")
    return tmp_path / "then", tmp_path / "now"


@pytest.fixture
def helm(tmp_path: Path):
    """A program that does what its script says."""

    def make(script: str) -> str:
        path = tmp_path / "helm"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gateway: {}", True),
        (OBJECT, False),
        (f"{OBJECT}---\n{OBJECT}", False),
        ("- 1", False),
        ("a: [", False),
        ("", False),
    ],
)
def test_values_are_told_from_manifests(text, expected):
    assert is_values(text) is expected


def test_each_file_is_rendered_by_its_own_chart(files, charts, helm):
    told = manifests(files, Rendering(helm('echo "$@"'), charts, "llm/b"))
    for text, chart, path in zip(told, charts, files, strict=True):
        assert text == f"template b {chart} --namespace llm --values {path}\n"


def test_one_chart_serves_for_both_and_a_manifest_is_taken_as_it_is(files, charts, helm):
    files[0].write_text(OBJECT)
    told = manifests(files, Rendering(helm('echo "$3"'), charts[:1], "llm/b"))
    assert told == (OBJECT, f"{charts[0]}\n")


def test_two_manifests_need_no_helm(files):
    for path in files:
        path.write_text(OBJECT)
    assert manifests(files, Rendering(None, (), "llm/b")) == (OBJECT, OBJECT)


@pytest.mark.parametrize(
    ("script", "change", "said", "remedy"),
    [
        (None, {}, "there is no `helm` on the PATH", "helm template RELEASE CHART --values"),
        ("exit 0", {"charts": ()}, "--chart is no chart's folder", "--chart deploy/helm/ballast"),
        ("exit 0", {"charts": (Path("/nowhere"),)}, "/nowhere is no chart's folder", "old and new"),
        ("exit 0", {"release": "ballast"}, "no NAMESPACE/NAME", "helm list"),
        ("echo 'Error: gateway.replicas: needs one ledger' >&2; exit 1", {},
         "old.yaml: gateway.replicas: needs one ledger", "mend what it names"),
    ],
)  # fmt: skip
def test_what_cannot_be_rendered_says_why_and_what_to_do(
    files, charts, helm, script, change, said, remedy
):
    rendering = Rendering(helm(script) if script else None, charts[:1], "llm/b")
    with pytest.raises(ProblemError) as caught:
        manifests(files, rendering._replace(**change))
    assert said in str(caught.value.what)
    assert remedy in str(caught.value.remedy)


def test_a_third_chart_and_a_file_that_is_away_are_refused(files, charts, helm):
    with pytest.raises(ProblemError) as caught:
        manifests(files, Rendering(helm("exit 0"), (*charts, charts[0]), "llm/b"))
    assert "more than twice" in str(caught.value.what)
    with pytest.raises(ProblemError) as caught:
        manifests((files[0], Path("/nowhere.yaml")), Rendering(None, (), "llm/b"))
    assert "cannot read /nowhere.yaml" in str(caught.value.what)


def test_a_helm_that_cannot_run_is_said(files, charts, tmp_path):
    with pytest.raises(ProblemError) as caught:
        manifests(files, Rendering(str(tmp_path / "none"), charts[:1], "llm/b"))
    assert "Helm does not run" in str(caught.value.what)
