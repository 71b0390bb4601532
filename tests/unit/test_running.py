"""Which settings a command goes by beside a running stack."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from ballast.running import settings_of


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A settings file, and what `up` wrote down of it, a minute later."""
    monkeypatch.delenv("BALLAST_CONFIG", raising=False)
    tree = {"state_dir": str(tmp_path), "gateway": {"port": 9000, "ops_port": 9001}}
    own, written = tmp_path / "mine.yaml", tmp_path / "up.yaml"
    own.write_text(yaml.safe_dump(tree), "utf-8")
    row = {"name": "of-the-stage", "context_tokens": 4096}
    written.write_text(yaml.safe_dump(tree | {"models": [row]}), "utf-8")
    os.utime(own, (1000, 1000))
    os.utime(written, (1060, 1060))
    return own, written


def names(config: Path) -> list[str]:
    return [model.name for model in settings_of(config).models]


def test_the_file_that_up_was_started_with_tells_of_the_running_stack(files):
    assert names(files[0]) == ["of-the-stage"]


def test_a_file_that_was_changed_since_says_what_it_says(files):
    os.utime(files[0], (1061, 1061))
    assert names(files[0]) == []


def test_a_file_of_another_stack_says_what_it_says(files):
    tree = yaml.safe_load(files[0].read_text("utf-8"))
    tree["gateway"]["ops_port"] = 9002
    files[0].write_text(yaml.safe_dump(tree), "utf-8")
    os.utime(files[0], (1000, 1000))
    assert names(files[0]) == []


def test_a_file_stands_alone_where_nothing_was_started(files):
    files[1].unlink()
    assert names(files[0]) == []
