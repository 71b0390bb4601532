"""The deployment's id: its own in each installation, one for all processes of one."""

from __future__ import annotations

import multiprocessing
import stat

import pytest

from serving.deployment import FILE, ensure, identify
from serving.settings import Settings, SettingsError


def test_each_installation_makes_an_id_of_its_own_and_keeps_it(tmp_path):
    first, second = (ensure(tmp_path / name) for name in ("one", "two"))
    assert first != second
    assert ensure(tmp_path / "one") == first
    assert stat.S_IMODE((tmp_path / "one" / FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "one").iterdir()] == [FILE]


def test_the_id_in_the_settings_wins_and_makes_no_file(tmp_path):
    assert identify(Settings(deployment_id="own", state_dir=tmp_path / "s")) == "own"
    assert not (tmp_path / "s").exists()
    made = identify(Settings(state_dir=tmp_path / "s"))
    assert Settings(deployment_id=made).deployment_id == made


def test_processes_that_start_at_once_agree_on_one_id(tmp_path):
    context = multiprocessing.get_context("forkserver")
    with context.Pool(4) as pool:
        for serial in range(20):
            found = pool.map(ensure, [tmp_path / str(serial)] * 4, chunksize=1)
            assert len(set(found)) == 1


@pytest.mark.parametrize("text", ["", "a,b", "x" * 65, "é"])
def test_a_file_that_holds_no_id_refuses_to_start(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(SettingsError, match="delete it"):
        ensure(tmp_path)


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="deployment_id: cannot keep"):
        ensure(tmp_path / "file" / "below")
