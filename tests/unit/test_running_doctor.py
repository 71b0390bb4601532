"""The doctor beside a running stack: which one it judges, and with whose environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from ballast import plan, running, running_doctor, stages, up
from ballast.doctor import Level
from ballast.messages import tell
from serving.settings import Settings


@contextmanager
def gateway(environ: dict[str, str]) -> Iterator[int]:
    """A child whose command line is a gateway's; tells this process's id, whose child it is."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "serving.app"], env=environ,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        yield os.getpid()
        child.communicate()


@pytest.mark.parametrize(
    ("config", "wish"),
    [
        (Path("c.yaml"), plan.Wish()),
        (None, plan.Wish(model="m")),
        (None, plan.Wish(port=1)),
        (None, plan.Wish(has_engine=False)),
    ],
)
def test_whoever_names_something_asks_about_a_start(config: Path | None, wish: plan.Wish) -> None:
    assert running_doctor.pid_of(wish, config) is None


def test_without_words_the_running_stack_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALLAST_STATE_DIR", str(tmp_path))
    assert running_doctor.pid_of(plan.Wish(), None) is None
    with up.held(tmp_path):
        assert running_doctor.pid_of(plan.Wish(), None) == os.getpid()
    assert running_doctor.pid_of(plan.Wish(), None) is None, "it has ended"


def test_what_only_the_gateway_has_in_its_environment_counts_and_leaves_no_trace() -> None:
    with gateway({"OF_ITS_SHELL": "k=v"}) as pid:
        with running_doctor.environment_of(pid):
            assert os.environ["OF_ITS_SHELL"] == "k=v"
        assert "OF_ITS_SHELL" not in os.environ


def test_how_it_was_started_is_remembered_and_an_older_one_read(tmp_path: Path) -> None:
    assert running.began(tmp_path) == running.Began("", True)
    (tmp_path / running.BEGAN).write_text('{"stage": "poc", "has_engine": false}')
    assert running.began(tmp_path) == running.Began("poc", has_engine=False)
    (tmp_path / running.BEGAN).write_text("{")
    assert running.began(tmp_path) == running.Began()


def test_its_stage_and_lacks_are_told_in_both_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALLAST_STATE_DIR", str(tmp_path))
    model = {"name": "chat", "context_tokens": 8192, "offerings": ["deepseek/deepseek-flash"]}
    settings = Settings.model_validate(
        {"state_dir": tmp_path, "models": [model], "providers": [{"id": "deepseek"}]}
    )
    text = yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True))
    (tmp_path / running.SETTINGS).write_text(text)
    (tmp_path / running.BEGAN).write_text('{"stage": "poc", "has_engine": false}')
    with gateway({"DEEPSEEK_API_KEY": "sk-x"}) as pid:
        found = list(running_doctor.findings(pid))
    assert [one.subject for one in found[:3]] == ["stack", "stage", "stage"]
    assert f"以下按它启动时的配置（{tmp_path / 'up.yaml'}）" in tell(found[0].text, "zh")
    lack = next(lack for lack in stages.lacks(stages.Name.POC, settings, stages.Keyed((), ()), ()))
    assert str(lack.what) in str(found[2].text)
    assert (found[2].level, "只有一家服务商" in tell(found[2].text, "zh")) == (Level.WARN, True)
    assert not [one for one in found if one.subject == "settings" and one.level is Level.STOP]
