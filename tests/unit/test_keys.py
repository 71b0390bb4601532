"""Keys come from settings and a file; a wrong file later keeps the last good keys."""

from __future__ import annotations

import os

import pytest
import yaml

from serving.auth import KeyConflict, digest
from serving.errors import CallerError
from serving.keys import Keys, pepper
from serving.settings import Settings, SettingsError

PEPPER = b"p" * 32


def row(key_id, value, **more):
    return {"id": key_id, "tenant": "acme", "hmac": digest(PEPPER, value).hex(), **more}


@pytest.fixture
def make_settings(tmp_path):
    (tmp_path / "pepper").write_bytes(PEPPER + b"\n")

    def build(keys=(), file=None, **more):
        values = {"state_dir": tmp_path, "tenants": [{"id": "acme"}], "keys": keys, **more}
        if file is not None:
            values["keys_file"] = tmp_path / "keys.yaml"
            (tmp_path / "keys.yaml").write_text(
                file if isinstance(file, str) else yaml.safe_dump(file)
            )
        return Settings.model_validate(values)

    return build


def test_the_pepper_is_read_without_its_line_end(make_settings):
    assert pepper(make_settings()) == PEPPER


@pytest.mark.parametrize("content", [None, b"", b"p" * 31, b"p" * 31 + b"\n"], ids=str)
def test_a_missing_or_short_pepper_refuses_to_start(make_settings, tmp_path, content):
    path = tmp_path / "other"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match="pepper_file"):
        pepper(make_settings(pepper_file=path))


def test_keys_of_settings_and_file_are_known_together(make_settings):
    keys = Keys(make_settings([row("k1", b"one")], [row("k2", b"two")]))
    assert keys.identify(b"Bearer one").key_id == "k1"
    assert keys.identify(b"Bearer two").key_id == "k2"
    assert keys.identify(b"Bearer two").key_id == "k2", "from memory"
    for header in (b"Bearer three", b"", None, b"Bearer three"):
        with pytest.raises(CallerError):
            keys.identify(header)


def test_an_empty_file_and_no_file_know_only_the_settings_keys(make_settings):
    for file in (None, ""):
        assert Keys(make_settings([row("k1", b"one")], file)).identify(b"Bearer one")


@pytest.mark.parametrize(
    "file",
    ["{a: b}", "- 1", "- {id: k}", "a: [", "- 2026-13-41", [row("k2", b"two", extra=1)]],
    ids=str,
)
def test_a_wrong_file_refuses_to_start_and_echoes_no_hmac(make_settings, file):
    with pytest.raises(SettingsError, match="keys_file") as caught:
        Keys(make_settings([], file))
    assert digest(PEPPER, b"two").hex() not in str(caught.value)


def test_a_file_that_is_not_there_refuses_to_start(make_settings, tmp_path):
    with pytest.raises(SettingsError, match="keys_file"):
        Keys(make_settings(keys_file=tmp_path / "none.yaml"))


def test_contradicting_keys_refuse_to_start(make_settings):
    with pytest.raises(KeyConflict):
        Keys(make_settings([row("k1", b"one")], [row("k1", b"two")]))


def changed(make_settings, file):
    """Keys that have seen their file change once."""
    keys = Keys(make_settings([], [row("k1", b"one")]))
    assert keys.identify(b"Bearer one").key_id == "k1"
    make_settings([], file)
    path = keys._settings.keys_file
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))
    keys._checked_s = float("-inf")
    return keys


def test_a_revoked_key_is_refused_after_the_file_changed(make_settings):
    keys = changed(make_settings, [row("k1", b"one", is_revoked=True), row("k2", b"two")])
    with pytest.raises(CallerError, match="revoked"):
        keys.identify(b"Bearer one")
    assert keys.identify(b"Bearer two").key_id == "k2"


@pytest.mark.parametrize(
    "file", ["a: [", [row("k", b"x", tenant="nobody")]], ids=["yaml", "tenant"]
)
def test_a_file_that_became_wrong_keeps_the_last_good_keys_and_says_so(make_settings, caplog, file):
    assert changed(make_settings, file).identify(b"Bearer one").key_id == "k1"
    assert [r.message for r in caplog.records] == ["keys_unreadable"]


def test_the_memory_of_known_headers_is_bounded(make_settings, monkeypatch):
    keys = Keys(make_settings([row("k1", b"one")]))
    monkeypatch.setattr("serving.keys.KNOWN_MAX", 10)
    for blanks in range(1, 100):
        assert keys.identify(b"Bearer" + b" " * blanks + b"one").key_id == "k1"
    assert len(keys._known) <= 10
