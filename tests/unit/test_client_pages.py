"""Clients' pages: in step with their facts, whole in both languages, of what was really tried."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from benchmarks.clients import environments, pages

FACTS: dict[str, Any] = yaml.safe_load(pages.FACTS.read_text("utf-8"))


def test_the_pages_are_in_step_with_their_facts() -> None:
    for path, text in pages.rendered().items():
        assert path.read_text("utf-8") == text, "run `python -m benchmarks.clients pages`"
    written = {path.stem for path in (pages.DOCS / "clients").glob("*.md")}
    assert written == set(FACTS["clients"]), "a page without facts: take it away"


def test_the_matrix_tells_of_the_versions_that_are_pinned() -> None:
    assert not pages.stale(), (
        "run them: CLIENT_RESULTS=FOLDER pytest tests/gateway/test_clients_full.py, then"
        " `python -m benchmarks.clients pages --results FOLDER`"
    )


@pytest.mark.parametrize("name", sorted(FACTS["clients"]))
def test_each_client_was_run_or_says_where_its_requests_were_read(name: str) -> None:
    one = FACTS["clients"][name]
    assert (name in environments.clients()) != ("from" in one)
    assert all(set(note) == {"en", "zh"} and all(note.values()) for note in one["notes"])
    assert one["settings"]


def test_each_environment_has_a_program_and_pins_what_it_wants() -> None:
    for client in environments.clients().values():
        assert client.program.is_file()
        assert client.versions


def test_an_environment_that_cannot_be_made_names_the_mirrors_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    client = environments.clients()["openai"]
    with pytest.raises(environments.EnvironmentMissing, match="name a mirror by UV_DEFAULT_INDEX"):
        environments.make(client, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("openai-*/made"))
