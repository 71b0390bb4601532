"""How Ray is started: folder, token, command line. Ray itself is not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from serving.engine import ray_head
from serving.engine.spec import ClusterSpec, EngineSpec

ENGINE = EngineSpec(model_name="demo", model_path="embedded", secret_path="/s", num_cpus=3)
SPEC = ClusterSpec(engines=(ENGINE,), cache_dir="/cache")


def test_the_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = ray_head.ensure_token(tmp_path)
    token = path.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ray_head.ensure_token(tmp_path).read_text() == token


def test_ray_listens_on_loopback_and_asks_for_the_token() -> None:
    command = ray_head.ray_command(SPEC, Path("/r"), dashboard_port=7)
    assert "--node-ip-address=127.0.0.1" in command
    assert "--dashboard-host=127.0.0.1" in command
    environment = ray_head.ray_environment(SPEC, Path("/token"))
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] == "/token"
    assert environment["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "1"


def test_ray_gets_a_cpu_more_than_its_engines_take() -> None:
    (flag,) = (f for f in ray_head.ray_command(SPEC, Path("/r"), 7) if f.startswith("--num-cpus"))
    assert int(flag.partition("=")[2]) >= 4


def test_the_last_runs_sessions_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_head, "RAY_DIR_CHARS_MAX", 4096)
    (tmp_path / "ray" / "session_old").mkdir(parents=True)
    folder = ray_head.prepare_ray_dir(tmp_path)
    assert folder == tmp_path / "ray"
    assert list(folder.iterdir()) == []


def test_a_long_state_path_gets_a_short_ray_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_head, "RAY_DIR_CHARS_MAX", 1)
    monkeypatch.setattr(ray_head.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = ray_head.prepare_ray_dir(tmp_path / "state")
    assert folder == ray_head.prepare_ray_dir(tmp_path / "state")
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
