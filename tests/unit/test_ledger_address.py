"""From the ledger's settings to what libpq takes; a password goes nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.ledger.address import address, is_at_home
from serving.ledger.link import Fault, judged
from serving.ledger.postgres import PostgresLedger
from serving.ledger.sqlite import SqliteLedger
from serving.ledger.store import opener
from serving.settings import Ledger, Settings, SettingsError, load

URL = "postgresql://gateway@db.internal:6432/ballast"


def at(url: str = URL, **more: object) -> dict[str, object]:
    return dict(address(Ledger.model_validate({"url": url} | more), environ={}).parts)


def test_an_address_elsewhere_is_encrypted_unless_somebody_decides_otherwise() -> None:
    assert at()["sslmode"] == "require"
    assert at(sslmode="verify-full", sslrootcert="/etc/ca.pem")["sslmode"] == "verify-full"
    assert at(sslmode="verify-full", sslrootcert="/etc/ca.pem")["sslrootcert"] == "/etc/ca.pem"
    assert at(sslmode="disable")["sslmode"] == "disable"
    assert at(f"{URL}?sslmode=verify-ca")["sslmode"] == "verify-ca"
    assert at("postgresql://u@127.0.0.1,db.internal/d")["sslmode"] == "require"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@localhost/d",
        "postgresql://u@[::1]:5433/d",
        "postgresql:///d",
        "postgresql:///d?host=/run/postgresql",
    ],
)
def test_this_machine_needs_no_encryption(url: str) -> None:
    assert "sslmode" not in at(url)


def test_every_wait_has_an_end_and_writers_look_for_the_primary() -> None:
    parts = at(connect_s=4)
    assert parts["connect_timeout"] == 4
    assert parts["tcp_user_timeout"] == 10_000
    assert parts["target_session_attrs"] == "read-write"
    settings = Ledger(url=URL)
    to_read = address(settings, is_read_only=True, environ={})
    assert to_read.parts["target_session_attrs"] == "any"
    assert to_read.name == "db.internal:6432/ballast"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/d",
        "postgresql://u:@h/d",
        "postgresql://u:hunter2/x@h/d",
        "postgresql://u:hunter2?x@h/d",
        "postgresql://u:x@hunter2@h/d",
        "postgresql://h/d?password=hunter2",
        "postgresql://h/d?sslmode=require&PASSWORD=hunter2",
        "mysql://h/d",
        "ledger.sqlite",
    ],
)
def test_a_url_with_a_password_or_of_another_kind_is_refused_unrepeated(url: str) -> None:
    with pytest.raises(SettingsError, match=r"ledger\.url") as caught:
        load(None, environ={"BALLAST_LEDGER__URL": url})
    assert "hunter2" not in str(caught.value)


def test_a_url_that_libpq_cannot_read_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"ledger\.url"):
        address(Ledger(url="postgresql://h/d?no_such_key=1"), environ={})


def test_several_hosts_may_be_named() -> None:
    parts = at("postgresql://u@[fd00::1]:5433,db2/d")
    assert (parts["host"], parts["port"]) == ("fd00::1,db2", "5433,")


def test_the_password_comes_from_a_file_or_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from file\n")
    in_file = address(Ledger(url=URL, password_file=file), environ={})
    assert in_file.password() == "from file"
    file.write_text("changed")
    assert in_file.password() == "changed"
    named = Ledger(url=URL, password_env="PG_SECRET")
    assert address(named, environ={"PG_SECRET": "from variable"}).password() == "from variable"
    assert address(Ledger(url=URL), environ={}).password() is None
    for shown in (repr(in_file), str(in_file.parts), repr(named)):
        assert "changed" not in shown
        assert "from variable" not in shown


def test_a_password_that_is_not_there_is_named_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ledger\.password_file: .*missing: No such file"):
        address(Ledger(url=URL, password_file=tmp_path / "missing"), environ={})
    with pytest.raises(SettingsError, match=r"ledger\.password_env: PG_SECRET is not set"):
        address(Ledger(url=URL, password_env="PG_SECRET"), environ={})


def test_the_settings_choose_the_store(tmp_path: Path) -> None:
    embedded = opener(Settings(state_dir=tmp_path))()
    assert isinstance(embedded, SqliteLedger)
    embedded.close()
    assert (tmp_path / "ledger.sqlite").exists()
    production = opener(Settings(state_dir=tmp_path, ledger=Ledger(url=URL)))()
    assert isinstance(production, PostgresLedger)  # nothing connects before it is asked
    production.close()


def test_hosts_are_at_home_only_if_all_of_them_are() -> None:
    assert is_at_home("")
    assert is_at_home("/run/postgresql,localhost,127.0.0.1")
    assert not is_at_home("localhost,10.0.0.1")
    assert not is_at_home("localhost.example")


@pytest.mark.parametrize(
    ("sqlstate", "fault"),
    [
        (None, Fault.LOST),
        ("08006", Fault.LOST),
        ("57P01", Fault.LOST),
        ("57P03", Fault.LOST),
        ("25006", Fault.LOST),
        ("40001", Fault.CONFLICT),
        ("40P01", Fault.CONFLICT),
        ("55P03", Fault.REFUSED),
        ("57014", Fault.REFUSED),
        ("42501", Fault.REFUSED),
        ("23502", Fault.REFUSED),
    ],
)
def test_what_an_error_says_about_trying_again(sqlstate: str | None, fault: Fault) -> None:
    assert judged(sqlstate) is fault
