"""Keys come from settings and a file; a wrong file later keeps the last good keys."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from serving.auth import KeyConflict, digest, pepper_mark
from serving.directory.values import Directory, PepperMark
from serving.errors import CallerError
from serving.keys import Keys, pepper
from serving.settings import KeySettings, Settings, SettingsError, TenantSettings

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


def stored(*rows, tenants=("shop",), **more):
    keys = [KeySettings.model_validate(one) for one in rows]
    owners = {name: TenantSettings(id=name) for name in tenants}
    return Directory(1, tenants=owners, keys={k.id: k for k in keys}, **more)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (stored(row("k1", b"other")), "key id 'k1' is given twice"),
        (stored(row("k9", b"one")), "'k9' has the same value"),
        (stored(row("k9", b"x", previous_hmac=digest(PEPPER, b"one").hex())), "same value"),
        (stored(row("k9", b"other", tenant="gone")), "tenant 'gone', which is nowhere"),
        (stored(tenants=("acme", "shop")), "tenant 'acme' is given twice"),
    ],
    ids=["id", "value", "previous", "tenant", "twice"],
)
def test_a_stored_row_that_contradicts_the_settings_counts_as_absent_and_the_others_hold(
    make_settings, found, words
):
    """A leaked key that was revoked stays revoked, whatever is wrong with another row."""
    keys = Keys(make_settings([row("k1", b"one")]))
    leaked = row("k2", b"two", tenant="shop")
    keys.take(stored(leaked))
    assert keys.identify(b"Bearer two").tenant == "shop"
    gone = KeySettings.model_validate(leaked | {"is_revoked": True})
    both = Directory(2, tenants=found.tenants, keys={**found.keys, "k2": gone})
    with pytest.raises(KeyConflict, match=words):
        keys.take(both)
    with pytest.raises(CallerError, match="revoked"):
        keys.identify(b"Bearer two")
    assert keys.identify(b"Bearer one").key_id == "k1", "the settings' own"
    keys.take(stored(leaked))
    assert keys.identify(b"Bearer two").key_id == "k2"


def test_keys_made_under_another_pepper_are_said_to_be(make_settings, caplog):
    keys = Keys(make_settings([row("k1", b"one")]))
    for pepper_bytes, is_said in ((PEPPER, False), (b"q" * 32, True)):
        caplog.clear()
        mark = PepperMark(hmac=pepper_mark(pepper_bytes))
        keys.take(stored(pepper={"mark": mark}))
        assert ("pepper_differs" in caplog.text) == is_said


def test_an_expired_key_ends_on_time_even_while_the_file_cannot_be_read(make_settings, tmp_path):
    soon = datetime.now(UTC) + timedelta(milliseconds=200)
    keys = Keys(make_settings([row("k1", b"one", expires=soon)], file=[]))
    assert keys.identify(b"Bearer one").key_id == "k1"
    (tmp_path / "keys.yaml").unlink()
    while datetime.now(UTC) <= soon:
        keys._checked_s = 0.0
        with contextlib.suppress(CallerError):
            keys.identify(b"Bearer one")
    keys._checked_s = 0.0
    with pytest.raises(CallerError, match="expired"):
        keys.identify(b"Bearer one")
