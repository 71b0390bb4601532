"""The two images: judged by rules, and their steps run in a clean root: no engine builds here."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy import lock_subset, sbom

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "Dockerfile"
IGNORED = ROOT / "deploy" / "Dockerfile.dockerignore"


class Step(NamedTuple):
    """One instruction."""

    stage: str
    word: str
    rest: str


def steps() -> list[Step]:
    text = re.sub(r"\\\n", " ", FILE.read_text("utf-8"))
    found, stage = [], ""
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.rpartition(" AS ")[2]
        found.append(Step(stage, word, rest.strip()))
    return found


def of(word: str, stage: str = "") -> list[str]:
    return [s.rest for s in steps() if s.word == word and stage in ("", s.stage)]


def test_every_base_is_pinned_by_a_digest_that_must_be_named() -> None:
    for base in of("FROM"):
        assert re.fullmatch(r"\$\{\w+_IMAGE\}@\$\{\w+_DIGEST\} AS \w+", base), base
    defaults = dict(a.partition("=")[::2] for a in of("ARG", ""))
    assert [defaults["PYTHON_DIGEST"], defaults["VLLM_DIGEST"]] == ["", ""], "none to go stale"
    assert not any("latest" in text or text.endswith(":") for text in defaults.values())


def test_the_engines_base_is_the_vllm_of_the_lock() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    version = re.search(r'"vllm==([\d.]+)"', project)
    assert version is not None
    assert f"VLLM_IMAGE=vllm/vllm-openai:v{version[1]}" in of("ARG", "")
    assert f"== '{version[1]}'" in FILE.read_text("utf-8")


@pytest.mark.parametrize("stage", ["gateway", "engine"])
def test_an_image_ends_as_the_user_that_the_chart_names(stage: str) -> None:
    assert of("USER", stage)[-1] == "10001:10001"
    after = [s.word for s in steps() if s.stage == stage]
    assert "RUN" not in after[after.index("USER") :], "nothing is built without rights to"


@pytest.mark.parametrize("stage", ["gateway", "engine"])
def test_an_image_says_what_it_is_and_what_is_in_it(stage: str) -> None:
    (label,) = of("LABEL", stage)
    for key in ("title", "licenses", "revision"):
        assert f"org.opencontainers.image.{key}=" in label
    assert 'ballast.sbom="/app/sbom.cdx.json"' in label


@pytest.mark.parametrize("stage", ["gateway", "engine"])
def test_commands_are_lists_that_get_signals(stage: str) -> None:
    for text in of("ENTRYPOINT", stage) + of("CMD", stage):
        assert isinstance(json.loads(text), list)


def test_all_that_is_installed_is_checked_against_hashes() -> None:
    for command in of("RUN"):
        for install in re.findall(r"(?:pip|uv pip) install [^&;]*", command):
            is_own = "/app/dist/*.whl" in install
            assert is_own or "--require-hashes" in install, install
            assert not is_own or re.search(r"--no-index|--offline", install), install


def test_nothing_is_fetched_but_packages() -> None:
    assert of("ADD") == []
    for command in of("RUN"):
        assert not re.search(r"\b(curl|wget|git clone|apt-get)\b", command), command


def test_the_gateways_image_holds_no_cuda_and_no_engine() -> None:
    gateway = (ROOT / "requirements" / "gateway.lock").read_text("utf-8")
    cpu = lock_subset.entries((ROOT / "requirements" / "cpu.lock").read_text("utf-8"))
    names = {*lock_subset.entries(gateway), *lock_subset.closure(cpu, ["kubernetes"])}
    assert {"aiohttp", "uvloop", "kubernetes"} <= names
    heavy = re.compile(r"torch|vllm|ray|nvidia|cuda|transformers|triton")
    assert [name for name in names if heavy.match(name)] == []


def test_all_that_is_copied_is_there_and_let_in() -> None:
    rules = [line for line in IGNORED.read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    for text in of("COPY"):
        if text.startswith("--from="):
            continue
        *sources, _ = text.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            inside = f"{source}x" if source.endswith("/") else source
            assert any(fnmatch(inside, rule) for rule in let_in), f"{source} is kept out"


@pytest.mark.parametrize("name", [".git/config", ".env", "deploy/helm/x", "tests/x", ".venv/x"])
def test_a_build_never_sees_what_it_does_not_need(name: str) -> None:
    rules = [line[1:] for line in IGNORED.read_text("utf-8").splitlines() if line[:1] == "!"]
    assert not any(fnmatch(name, rule) for rule in rules)


def test_a_part_of_the_lock_holds_all_that_its_roots_ask_for() -> None:
    rows = lock_subset.entries(
        "a==1 \\\n    --hash=sha256:0\n    # via c\nb[x]==2 \\\n    --hash=sha256:1\n    # via\n"
        "    #   a\n    #   d\nc==3 \\\n    --hash=sha256:2\n    # via ballast (pyproject.toml)\n"
        "d==4 \\\n    --hash=sha256:3\n    # via other\n"
    )
    assert lock_subset.closure(rows, ["C"]) == ["a", "b", "c"]
    assert "--hash=sha256:1" in rows["b"]
    with pytest.raises(KeyError, match="nothing"):
        lock_subset.closure(rows, ["nothing"])


def test_the_bill_of_materials_names_what_is_installed() -> None:
    found = sbom.document()
    rows = {c["name"].lower(): c for c in found["components"]}
    assert found["bomFormat"] == "CycloneDX"
    assert rows["aiohttp"]["purl"].startswith("pkg:pypi/aiohttp@")
    assert rows["aiohttp"]["licenses"][0]["license"]["name"] != "UNKNOWN"


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_gateways_steps_work_in_a_clean_root(tmp_path: Path) -> None:
    """The build stage's own commands, its folders moved to a place of ours."""
    app = tmp_path / "app"
    source = app / "src"
    source.mkdir(parents=True)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    environ["PATH"] = f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    for step in steps():
        if step.stage == "build" and step.word == "COPY":
            *names, target = shlex.split(step.rest)
            for name in names:
                into = source / target
                if name.endswith("/"):
                    shutil.copytree(ROOT / name, into, dirs_exist_ok=True)
                else:
                    into.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, into)
        elif step.stage == "build" and step.word == "RUN":
            command = step.rest.replace("/app/", f"{app}/")
            subprocess.run(["sh", "-ec", command], cwd=source, env=environ, check=True)
    venv = app / "venv" / "bin"
    asked = [str(venv / "ballast"), "--version"]
    assert subprocess.run(asked, capture_output=True, check=True, env=environ).stdout
    settings = tmp_path / "settings.yaml"
    settings.write_text("gateway: {prt: 1}\n")
    start = [str(venv / "python"), "-m", "serving.app", "--config", str(settings)]
    done = subprocess.run(start, capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert done.returncode == 3, done.stderr
    assert "gateway.prt" in done.stderr
    names = {c["name"] for c in json.loads((app / "sbom.cdx.json").read_text())["components"]}
    assert {"ballast", "kubernetes"} <= names


def test_the_dockerfile_passes_hadolint() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([linter, str(FILE)], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, "")
