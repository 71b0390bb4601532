"""Settings: each key checked, each layer over the one below, nothing secret in an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.records import LatencyClass
from serving.settings import Settings, SettingsError, load


def write(tmp_path, text):
    path = tmp_path / "ballast.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_anything_the_defaults_hold():
    settings = load(None, {})
    assert (settings.gateway.host, settings.gateway.port) == ("127.0.0.1", 8080)
    assert settings.state_dir.is_absolute()
    assert load(None, {"XDG_STATE_HOME": "/s"}).state_dir.as_posix() == "/s/ballast"


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path):
    path = write(tmp_path, "gateway: {port: 1, ops_port: 2, drain_s: 3}\ndeployment_id: file")
    env = {"BALLAST_GATEWAY__PORT": "10", "BALLAST_GATEWAY__OPS_PORT": "20", "HOME": "/x"}
    settings = load(path, env, {"gateway": {"port": 100}})
    assert settings.deployment_id == "file"
    assert (settings.gateway.port, settings.gateway.ops_port) == (100, 20)
    assert (settings.gateway.drain_s, settings.gateway.pods) == (3.0, 1)


def test_an_environment_value_is_read_like_the_file_s():
    env = {
        "BALLAST_FLEET__STATIC": "[{model: m, url: 'http://127.0.0.1:1/x', limit: 7}]",
        "BALLAST_CONTROLLER__IS_DRY_RUN": "false",
        "BALLAST_PEPPER_FILE": "",
    }
    settings = load(None, env)
    assert settings.fleet.static[0].limit == 7
    assert settings.controller.is_dry_run is False
    assert settings.pepper_file is None


def test_an_empty_file_changes_nothing(tmp_path):
    assert load(write(tmp_path, ""), {}) == load(None, {})


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        load(None, {}).gateway.port = 1


FAULTS = {
    "unknown key": ("gatway: {}", "gatway"),
    "unknown inner key": ("gateway: {prot: 1}", "gateway.prot"),
    "wrong type": ("gateway: {port: many}", "gateway.port"),
    "out of range": ("gateway: {port: 70000}", "gateway.port"),
    "negative": ("gateway: {queue: {calls_max: -1}}", "gateway.queue.calls_max"),
    "endless": ("gateway: {queue: {hold_s_max: .inf}}", "gateway.queue.hold_s_max"),
    "no number": ("fleet: {poll_s: .nan}", "fleet.poll_s"),
    "no section": ("gateway:", "gateway"),
    "unknown class": ("gateway: {classes: {fast: {first_token_s: 1, complete_s: 2}}}", "classes"),
    "no time": ("gateway: {classes: {live: {first_token_s: 0, complete_s: 2}}}", "first_token_s"),
    "odd deployment": ('deployment_id: "a\\r\\nb"', "deployment_id"),
    "short hmac": ("keys: [{id: k, tenant: t, hmac: abc}]", "keys.0.hmac"),
    "odd residency": ("tenants: [{id: t, residency: moon}]", "tenants.0.residency"),
    "odd overflow": (f"keys: [{{id: k, tenant: t, hmac: {'a' * 64}, overflow: maybe}}]",
                     "keys.0.overflow"),
    "unknown profile": ("models: [{name: m, profile: h1000}]", "models.0.profile"),
    "no scheme": ("fleet: {static: [{model: m, url: 'host:1'}]}", "fleet.static.0.url"),
    "tls engine": ("fleet: {static: [{model: m, url: 'https://h:1'}]}", "fleet.static.0.url"),
    "engine with a password": (
        "fleet: {static: [{model: m, url: 'http://u:p@h:1'}]}", "fleet.static.0.url"),
    "engine elsewhere": ("fleet: {static: [{model: m, url: 'http://h:1'}]}", "fleet.pool"),
    "engine elsewhere among others": (
        "fleet: {static: [{model: m, url: 'http://[::1]:1'}, {model: m, url: 'http://10.0.0.1'}]}",
        "http://10.0.0.1"),
    "no profile for weights": (
        "models: [{name: m, engine: {source: Qwen/Qwen3-8B}}]", "name a profile"),
    "a list": ("- 1", "mapping"),
    "no yaml": ("a: [", "ballast.yaml"),
    "no date": ("a: 2026-13-41", "ballast.yaml"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "word"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_setting_refuses_to_start_and_is_named(tmp_path, text, word):
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text), {})
    assert word in str(caught.value)


def test_every_fault_is_named_at_once(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, "a: 1\nb: 2"), {"BALLAST_GATEWAY__PORT": "-1"})
    assert all(word in str(caught.value) for word in ("a:", "b:", "gateway.port:"))


@pytest.mark.parametrize(
    "env",
    [
        {"BALLAST_NO_SUCH": "1"}, {"BALLAST_GATEWAY__NO": "1"}, {"BALLAST_": "1"},
        {"BALLAST_GATEWAY": "5", "BALLAST_GATEWAY__PORT": "1"},
        {"BALLAST_GATEWAY__PORT": "1", "BALLAST_GATEWAY": "5"},
        {"BALLAST_GATEWAY": "", "BALLAST_GATEWAY__PORT": "1"},
        {"BALLAST_GATEWAY__PORT": "["}, {"BALLAST_KEYS": "2026-13-41"},
        {"BALLAST_GATEWAY__PORT__X": "1"},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_variable_refuses_to_start(env):
    with pytest.raises(SettingsError):
        load(None, env)


def test_other_variables_are_nobody_s_business():
    assert load(None, {"BALLASTED": "[", "ballast_x": "1"}) == load(None, {})


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("keys: [{id: k, tenant: t, hmac: hunter2}]", {}), ("hunter2: 1 : 2", {}),
        ("keys: {hunter2", {}), ("", {"BALLAST_PEPPER_FILE": "{hunter2"}),
        ("", {"BALLAST_KEYS": "hunter2"}), ("pepper: hunter2", {}),
        ("providers: [{id: x, api_key: hunter2}]", {}),
    ],
)  # fmt: skip
def test_no_error_echoes_a_value(tmp_path, text, env):
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text), env)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="nowhere"):
        load(tmp_path / "nowhere.yaml", {})


def test_one_named_class_keeps_the_others(tmp_path):
    text = "gateway: {classes: {live: {first_token_s: 1, complete_s: 2}}}"
    classes = load(write(tmp_path, text), {}).gateway.classes
    assert set(classes) == set(LatencyClass)
    assert classes[LatencyClass.LIVE].complete_s == 2.0
    assert classes[LatencyClass.PATIENT].first_token_s == 60.0


@pytest.mark.parametrize(
    "url", ["http://h", "http://h:1/a/b", "http://127.0.0.1:80", "http://[::1]:8"]
)
def test_an_engine_s_address_may_look_like_this(tmp_path, url):
    text = f"fleet: {{static: [{{model: m, url: '{url}'}}], pool: {{}}}}"
    assert load(write(tmp_path, text), {}).fleet.static[0].url == url


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8:1", "localhost:1", "[::1]:8"])
def test_an_engine_on_this_machine_needs_no_label(tmp_path, host):
    text = f"fleet: {{static: [{{model: m, url: 'http://{host}'}}]}}"
    assert load(write(tmp_path, text), {}).fleet.pool.on_premises


def test_an_engine_that_says_where_it_stands_says_all_of_it(tmp_path):
    engine = "model: m, url: 'http://h:1', pool: {{jurisdiction: us{}}}"
    whole = ", operator: runpod, on_premises: false"
    text = f"fleet: {{static: [{{{engine.format(whole)}}}]}}"
    assert load(write(tmp_path, text), {}).fleet.static[0].pool.operator == "runpod"
    text = f"fleet: {{static: [{{{engine.format('')}}}]}}"
    with pytest.raises(SettingsError, match=r"fleet\.static\.0\.pool\.on_premises"):
        load(write(tmp_path, text), {})


@pytest.mark.parametrize("host", ["127.evil.example", "localhost.evil.example", "0.0.0.0", "h"])
def test_an_engine_elsewhere_must_say_where_it_stands(tmp_path, host):
    static = f"static: [{{model: m, url: 'http://{host}:1'}}]"
    with pytest.raises(SettingsError, match=r"fleet\.pool"):
        load(write(tmp_path, f"fleet: {{{static}}}"), {})
    pool = "pool: {jurisdiction: sg, operator: a cloud, on_premises: false}"
    assert (
        load(write(tmp_path, f"fleet: {{{static}, {pool}}}"), {}).fleet.pool.operator == "a cloud"
    )


@pytest.mark.parametrize(
    "model",
    ["{name: m}", "{name: m, engine: {}}", "{name: m, engine: {source: embedded}}",
     "{name: m, profile: instant, engine: {source: a/b}}",
     "{name: m, profile: cpu-embedded, engine: {source: /a}}"],
)  # fmt: skip
def test_a_model_s_profile_is_known_or_named(tmp_path, model):
    assert load(write(tmp_path, f"models: [{model}]"), {}).models[0].name == "m"


def test_a_home_folder_is_written_as_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    env = {"BALLAST_STATE_DIR": "~/s", "BALLAST_CACHE_DIR": "~/c"}
    for settings in (Settings(state_dir="~/s", cache_dir="~/c"), load(None, env)):
        assert settings.state_dir.as_posix() == "/home/of/somebody/s"
        assert settings.cache_dir.as_posix() == "/home/of/somebody/c"
    assert Settings(state_dir="/a").state_dir.as_posix() == "/a"


@given(st.dictionaries(st.text(max_size=10).map(lambda t: f"BALLAST_{t}"), st.text(max_size=10)))
def test_no_environment_raises_anything_but_a_settings_error(env):
    try:
        assert isinstance(load(None, env), Settings)
    except SettingsError as error:
        assert str(error)  # noqa: PT017 - either outcome is right
