"""The exit: everything a deployment holds is written out, counted, signed, and can be checked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ballast import identity, leaving, leaving_check, staged, stages
from ballast.keys_cli import TICKETS
from ballast.left_behind import PASSING
from ballast.problem import ProblemError
from serving.audit import sign
from serving.engine.ray_head import TOKEN_FILE
from serving.ledger.address import address
from serving.ledger.store import opener
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, RequestEnd
from serving.settings import Settings

NOW_S = 1_795_000_000.0
ROWS = 5_000


def checked(out: Path) -> list[str]:
    """By the key of the state folder beside it."""
    return leaving_check.check(out, sign.read_key(out.parent / "state" / "audit-key.pem").public)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    state = tmp_path / "state"
    tree: dict[str, Any] = {"state_dir": state}
    if request.param == "postgresql":
        new: Callable[[], str] = request.getfixturevalue("new_database")
        tree["ledger"] = {"url": new(), "sslmode": "disable"}
    own = identity.ensure(state)
    made = Settings.model_validate({**tree, "deployment_id": own.deployment_id})
    staged.make_budget(made, stages.load(stages.Name.POC))
    row = ("t", "p", "k", "chat", "m", "interactive")
    with closing(opener(made)()) as ledger:
        for first in range(0, ROWS, 1_000):
            records: list[Any] = []
            for number in range(first, first + 1_000):
                name, usage = f"r{number}", Usage(9, 1)
                records += [
                    AttemptBegin(name, 1, 1, 1, *row, "a/b", True, "x", 1, 1, "CNY", 0, 0),
                    EgressIntent(name, 1, 1, "t", 1, "rule", "cn", "a", "b"),
                    AttemptEnd(name, 1, 2, "ok", "", usage, Charge("CNY", 7), 1),
                    RequestEnd(name, 1, 2, *row, "ok", 200, "", "x", "a/b", 1, 0, 1, usage),
                ]
            ledger.apply(records)
    others = {"up.yaml": "a: 1\n", "journal/0/1-x.log": "rest", "logs/g.log": "l",
              "audit-anchor.jsonl": "{}\n", "odd/of-a-newer-ballast": "n"}  # fmt: skip
    for name, text in others.items():
        place = state / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
    return made


def counted(settings: Settings) -> dict[str, int]:
    """Rows by `database.table`, asked of the databases themselves."""
    found: dict[str, int] = {}
    if settings.ledger.url:
        with closing(address(settings.ledger).connect()) as connection:
            assert isinstance(connection, psycopg.Connection)
            names = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
            ).fetchall()
            for (name,) in names:
                rows = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()
                found[f"postgresql.{name}"] = rows[0] if rows else -1
    for path in settings.state_dir.glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (name,) in names.fetchall():
                if not name.startswith("sqlite_"):
                    rows = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()
                    found[f"{path.stem}.{name}"] = rows[0]
    return found


def test_every_row_and_every_file_is_written_or_named(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = leaving.export(settings, out, NOW_S)
    assert {f"{t.database}.{t.table}": t.rows for t in made.tables} == counted(settings)
    state = settings.state_dir
    everything = {p.relative_to(state).as_posix() for p in state.rglob("*") if p.is_file()}
    passing = {n for n in made.left_out if n.endswith(PASSING)}
    assert everything - passing <= set(made.files) | set(made.left_out)
    assert "odd/of-a-newer-ballast" in made.files
    assert "journal/0/1-x.log" in made.files
    assert checked(out) == []


def test_secrets_are_named_and_never_written(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = leaving.export(settings, out, NOW_S)
    secret = {name for name, why in made.left_out.items() if why == "secret"}
    assert {"pepper", "admin-key", "demo-key", "audit-key.pem"} <= secret
    words = [(settings.state_dir / name).read_bytes().strip() for name in secret]
    for path in out.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert not any(word in held for word in words), path


@pytest.mark.server
def test_a_table_of_the_server_is_never_here_as_a_whole(new_database: Callable[[], str]) -> None:
    url = new_database()
    url += ("&" if "?" in url else "?") + "options=-c%20statement_timeout%3D3000"
    settings = Settings.model_validate({"ledger": {"url": url, "sslmode": "disable"}})
    with closing(address(settings.ledger).connect()) as connection:
        connection.execute("CREATE VIEW endless AS SELECT generate_series(1, 10000000000) AS n")
    with leaving.postgres(settings) as base:
        columns, rows = base.rows("endless")
        assert (columns, next(rows)) == (("n",), (1,))


def test_rows_are_written_as_they_stand_in_the_ledger(settings: Settings, tmp_path: Path) -> None:
    made = leaving.export(settings, tmp_path / "out", NOW_S)
    (table,) = [one for one in made.tables if one.table == "requests"]
    rows = [json.loads(x) for x in (tmp_path / "out" / table.file).read_text("utf-8").splitlines()]
    assert len(rows) == ROWS
    assert {row["request_id"] for row in rows} == {f"r{number}" for number in range(ROWS)}
    assert rows[0]["prompt_tokens"] == 9


@pytest.fixture
def small(tmp_path: Path) -> Settings:
    identity.ensure(tmp_path / "state")
    with closing(sqlite3.connect(tmp_path / "state" / "ledger.sqlite")) as connection:
        connection.execute("CREATE TABLE t (a, b)")
        connection.execute("INSERT INTO t VALUES (1, x'00ff'), (2, 'text')")
        connection.commit()
    return Settings(state_dir=tmp_path / "state")


def test_a_secret_stays_behind_wherever_it_lies_and_whoever_named_it(
    small: Settings, tmp_path: Path
) -> None:
    state, out = small.state_dir, tmp_path / "out"
    given = {"providers": [{"id": "openai", "api_key_file": state / "vendors" / "openai.key"}],
             "rollout": {"hook": {"url": "https://c", "secret_file": state / "hook"}},
             "guard": {"terms_dir": state / "terms"}}  # fmt: skip
    own = {TOKEN_FILE, f"{TICKETS}/0123456789abcdef", "vendors/openai.key", "hook"}
    for name in (*own, "terms/list.txt"):
        (state / name).parent.mkdir(exist_ok=True)
        (state / name).write_text("opens-sesame" if name in own else "a term", "utf-8")
    found = Settings.model_validate({"state_dir": state, **given})
    made = leaving.export(found, out, NOW_S)
    assert {name for name in own if made.left_out.get(name) == "secret"} == own
    assert "terms/list.txt" in made.files
    assert not any(b"opens-sesame" in p.read_bytes() for p in out.rglob("*") if p.is_file())
    assert out.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("how", ["lost", "short", "changed", "gone"])
def test_what_was_lost_on_the_way_is_found(small: Settings, tmp_path: Path, how: str) -> None:
    out = tmp_path / "out"
    leaving.export(small, out, NOW_S)
    table = out / "tables" / "ledger.t.jsonl"
    text = table.read_text("utf-8")
    assert '"b":{"hex":"00ff"}' in text
    match how:
        case "lost":
            table.unlink()
        case "short":
            table.write_text(text.splitlines()[0] + "\n", "utf-8")
        case "changed":
            table.write_text(text.replace("text", "next"), "utf-8")
        case "gone":
            (out / "files" / "keys.yaml").unlink()
    assert len(checked(out)) == 1


def test_a_manifest_rewritten_to_match_what_was_changed_is_not_as_it_was_signed(
    small: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    leaving.export(small, out, NOW_S)
    table = out / "tables" / "ledger.t.jsonl"
    table.write_text(table.read_text("utf-8").replace("text", "next"), "utf-8")
    manifest = out / leaving.MANIFEST
    told = json.loads(manifest.read_text("utf-8"))
    (row,) = [one for one in told["tables"] if one["file"] == "tables/ledger.t.jsonl"]
    row["sha256"] = leaving.digest(table)
    manifest.write_text(json.dumps(told), "utf-8")
    assert leaving_check.check(out, None) == []
    assert checked(out) == ["manifest.json was changed"]
    (out / leaving.SEAL).unlink()
    assert checked(out) == ["manifest.sig.json: not there"]


def test_an_export_of_another_deployment_is_not_taken_for_ours(
    small: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    leaving.export(small, out, NOW_S)
    identity.ensure(tmp_path / "other")
    key = sign.read_key(tmp_path / "other" / "audit-key.pem")
    (fault,) = leaving_check.check(out, key.public)
    assert "not signed by the key" in fault


@pytest.mark.parametrize("name", ["../state/pepper", "/etc/passwd", "tables/../../state/pepper"])
def test_a_manifest_leads_nobody_out_of_its_folder(
    small: Settings, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    leaving.export(small, out, NOW_S)
    manifest = out / leaving.MANIFEST
    told = json.loads(manifest.read_text("utf-8"))
    told["tables"][0]["file"] = name
    told["files"][f"../{name}"] = "0" * 64
    manifest.write_text(json.dumps(told), "utf-8")
    faults = leaving_check.check(out, None)
    assert f"{name}: leads out of the folder" in faults
    assert f"files/../{name}: leads out of the folder" in faults


def test_what_was_slipped_in_is_told(small: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    leaving.export(small, out, NOW_S)
    (out / "tables" / "more.jsonl").write_text("{}\n", "utf-8")
    (out / "files" / "link").symlink_to("/etc/hostname")
    assert checked(out) == [
        "files/link: not in the manifest", "tables/more.jsonl: not in the manifest",
    ]  # fmt: skip


def test_secrets_of_every_kind_stay_where_they_are(small: Settings, tmp_path: Path) -> None:
    state = tmp_path / "state"
    opening = {"ray_token": "R" * 40, "tickets/0a1b": "T" * 40, "old/pepper": "P" * 40,
               "pg-pass": "W" * 40, "openai.key": "O" * 40}  # fmt: skip
    for name, value in opening.items():
        (state / name).parent.mkdir(exist_ok=True)
        (state / name).write_text(value, "ascii")
    (state / "elsewhere").symlink_to("/etc")
    tree = small.model_dump(exclude_none=True)
    tree["ledger"]["password_file"] = state / "pg-pass"
    tree["providers"] = [{"id": "openai", "api_key_file": state / "openai.key"}]
    made = leaving.export(Settings.model_validate(tree), tmp_path / "out", NOW_S)
    assert {made.left_out[name] for name in opening} == {"secret"}
    assert made.left_out["elsewhere"] == "link"
    assert "keys.yaml" in made.files
    held = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert not [value for value in opening.values() if value.encode() in held]
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_a_folder_that_holds_something_is_refused(small: Settings, tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="not empty"):
        leaving.export(small, tmp_path, NOW_S)


def test_a_folder_without_a_manifest_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="manifest"):
        leaving_check.check(tmp_path, None)


def test_a_damaged_database_is_no_silent_gap(small: Settings, tmp_path: Path) -> None:
    (tmp_path / "state" / "plans.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ProblemError, match="cannot be read whole"):
        leaving.export(small, tmp_path / "out", NOW_S)
