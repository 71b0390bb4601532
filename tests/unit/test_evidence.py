"""Compliance evidence: facts with their sources, signed by the month; people's part is told."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from ballast import compliance_files, evidence, evidence_file, evidence_guard, evidence_rules
from ballast import identity as identities
from ballast.cli import app
from ballast.evidence_values import Asked, Facts, Own, Section, WordList
from ballast.messages import Said
from ballast.problem import ProblemError
from models import provider
from serving.audit.auditor import signer
from serving.directory.changes import By, put
from serving.directory.store import opener as directory_opener
from serving.finance import statements
from serving.finance import store as finance_store
from serving.ledger.store import opener
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, RequestEnd
from serving.settings import Settings, TenantSettings

AT_MS = int(datetime(2026, 10, 15, tzinfo=UTC).timestamp() * 1e3)
LATER_S = datetime(2026, 11, 26, tzinfo=UTC).timestamp()
ROWS = provider.load(provider.FOLDER)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    state, terms = tmp_path / "ballast", tmp_path / "terms"
    terms.mkdir()
    (terms / "house.txt").write_text("#! action: block\n禁词甲\nforbidden thing\n", "utf-8")
    made = Settings.model_validate({
        "state_dir": state, "deployment_id": identities.ensure(state).deployment_id,
        "models": [{"name": "m", "offerings": ["deepseek/deepseek-flash"]}],
        "providers": [{"id": "deepseek"}], "tenants": [{"id": "t", "residency": "mainland"}],
        "guard": {"terms_dir": terms, "default": {"lists": ["house"]}},
    })  # fmt: skip
    row = ("t", "p", "k", "chat", "m", "interactive")
    with closing(opener(made)()) as ledger:
        for number, where in enumerate(["cn", "cn", "us"]):
            name, usage = f"r{number}", Usage(9, 1)
            code = "content_filter" if number == 0 else ""
            ledger.apply([
                AttemptBegin(name, 1, AT_MS, AT_MS, *row, "a/b", True, "x", 1, 1, "CNY", 0, 0),
                EgressIntent(name, 1, AT_MS, "t", 1, "rule", where, "a", "b"),
                AttemptEnd(name, 1, AT_MS, "ok", "", usage, Charge("CNY", 7), 1),
                RequestEnd(name, AT_MS, AT_MS, *row, "ok", 200, code, "x", "a/b", 1, 0, 1, usage),
            ])  # fmt: skip
    return made


def facts(settings: Settings, **changes: Any) -> Facts:
    found = Facts(
        month="2026-10", settings=settings, rows=ROWS, own=Own(), lists=(), lists_before=None,
        asked=Asked(2, 2, 24, (), ()), asked_fault="", cases={}, left=0, abroad=0, requests=0,
        blocked=0, audit={"entries": 1, "checkpoints": 1, "faults": 0}, changes={},
        tenants=(("t", "mainland"),),
    )  # fmt: skip
    return msgspec.structs.replace(found, **changes)


def needs(found: list[Section], section: str) -> list[str]:
    (one,) = [s for s in found if s.id == section]
    return [line.needs.key.rpartition(".")[2] for line in one.lines if line.needs is not None]


def test_every_line_names_its_source(settings: Settings) -> None:
    found = evidence_rules.sections(evidence.gather(settings, evidence.Asking("2026-10")))
    assert [s.id for s in found] == ["models", "words", "refusal", "complaints", "record",
                                     "retention", "controls", "impact"]  # fmt: skip
    assert all(line.source for section in found for line in section.lines)
    assert evidence_rules.open_points(found) > 0


def test_the_month_is_read_from_ledger_guard_and_audit(settings: Settings) -> None:
    found = evidence.gather(settings, evidence.Asking("2026-10"))
    assert (found.requests, found.blocked, found.left, found.abroad) == (3, 1, 3, 1)
    assert [(one.name, one.terms) for one in found.lists] == [("house", 2)]
    assert found.asked is not None
    assert (found.asked.refuse, found.asked.refused, found.asked.over_refused) == (2, 2, ())
    assert found.cases == {}
    other = evidence.gather(settings, evidence.Asking("2026-09"))
    assert (other.requests, other.left) == (0, 0)


def test_what_leaves_the_mainland_asks_for_its_legal_ground(settings: Settings) -> None:
    assert "abroad" in needs(evidence_rules.sections(facts(settings, left=3, abroad=1)), "impact")
    assert "abroad" not in needs(evidence_rules.sections(facts(settings, left=3)), "impact")


def controls(found: Facts) -> dict[str, str]:
    (one,) = [s for s in evidence_rules.sections(found) if s.id == "controls"]
    return {line.what.key.rpartition(".")[2]: str(line.value) for line in one.lines
            if isinstance(line.what, Said)}  # fmt: skip


def test_a_tenant_that_an_administrator_made_counts_like_those_of_the_settings(
    settings: Settings,
) -> None:
    with closing(directory_opener(settings)()) as store:
        head, _ = store.read()
        row = TenantSettings(id="loose", residency="anywhere")
        store.commit(head, put("tenant", row, "create", By("owner", 1)))
    found = evidence.gather(settings, evidence.Asking("2026-09"))
    assert found.tenants == (("loose", "anywhere"), ("t", "mainland"))
    assert controls(found)["residency"] == "in force for 1 of 2 tenants"


def test_a_rule_that_calls_got_past_is_not_in_force(settings: Settings) -> None:
    assert controls(facts(settings))["residency"] == "in force"
    assert controls(facts(settings, left=3, abroad=1))["residency"] == "not in force"
    assert controls(facts(settings, tenants=None))["residency"] == "not in force"


def test_what_one_tenant_has_is_not_told_of_all(settings: Settings) -> None:
    tenants = (("t", "mainland"), ("u", "mainland"))
    rules = {"default": {"personal": "mask"}, "tenants": {"u": {"personal": "off"}}}
    loose = Settings.model_validate({"state_dir": settings.state_dir, "guard": rules})
    assert controls(facts(loose, tenants=tenants))["personal"] == "in force for 1 of 2 tenants"


def test_what_can_no_longer_be_counted_is_no_nought(settings: Settings) -> None:
    with closing(finance_store.opener(settings)()) as database:
        mark = {"name": "trimmed", "at_ms": AT_MS}
        database.write(lambda at: at.run(statements.PUT_MARK, mark))
    found = evidence.gather(settings, evidence.Asking("2026-10"))
    assert found.requests is None
    assert "trimmed" in needs(evidence_rules.sections(found), "record")


def test_a_directory_that_is_away_is_told(settings: Settings) -> None:
    found = evidence_rules.sections(facts(settings, changes=None, tenants=None))
    assert "directory" in needs(found, "record")
    assert "directory" in needs(found, "impact")


def test_what_only_people_know_is_taken_from_their_file(settings: Settings, tmp_path: Path) -> None:
    own = tmp_path / "facts.yaml"
    own.write_text(
        "filing: {deepseek: 'Beijing-1'}\nalgorithm_filing: A1\nofficer: Li Lei\n"
        "complaints_contact: a@example\nreviewed: 2026-11-01 Han Mei\n", "utf-8",
    )  # fmt: skip
    found = evidence_rules.sections(evidence.gather(settings, evidence.Asking("2026-10", own)))
    assert needs(found, "models") == ["trains"]
    assert "contact" not in needs(found, "complaints")
    assert "reviewed" not in needs(found, "impact")


@pytest.mark.parametrize("text", ["oficer: x\n", "filing: [1]\n", "a: [\n"])
def test_a_file_of_facts_that_is_wrong_is_named(
    settings: Settings, tmp_path: Path, text: str
) -> None:
    own = tmp_path / "facts.yaml"
    own.write_text(text, "utf-8")
    with pytest.raises(ProblemError, match=r"facts\.yaml cannot be read"):
        evidence.gather(settings, evidence.Asking("2026-10", own))


def test_a_list_that_no_tenant_applies_lets_its_terms_through(settings: Settings) -> None:
    loose = settings.guard.model_copy(update={"default": type(settings.guard.default)()})
    _, terms = evidence_guard.word_lists(settings.guard.terms_dir)
    asked = evidence_guard.ask(loose, evidence_guard.Questions(), terms)
    assert (asked.refused, asked.passed) == (0, ("house",))
    found = evidence_rules.sections(facts(settings, asked=asked))
    assert "refused" in needs(found, "refusal")


def test_a_harmless_question_that_is_refused_is_shown(settings: Settings) -> None:
    questions = evidence_guard.Questions(("about 禁词甲", "hello"), ("say forbidden thing", "hi"))
    asked = evidence_guard.ask(settings.guard, questions, [])
    assert asked.over_refused == ("about 禁词甲",)
    assert (asked.refuse, asked.refused, asked.passed) == (2, 1, ("--questions",))


def test_a_broken_list_is_told_in_the_report(settings: Settings) -> None:
    assert settings.guard.terms_dir is not None
    (settings.guard.terms_dir / "bad.txt").write_text("no action\n", "utf-8")
    found = evidence.gather(settings, evidence.Asking("2026-10"))
    assert found.asked is None
    assert "bad" in found.asked_fault
    assert "guard" in needs(evidence_rules.sections(found), "refusal")


def test_the_change_log_compares_with_the_report_before(settings: Settings) -> None:
    evidence_file.write(settings, evidence.gather(settings, evidence.Asking("2026-09")), LATER_S)
    same = evidence.gather(settings, evidence.Asking("2026-10"))
    assert same.lists_before == same.lists
    assert settings.guard.terms_dir is not None
    with (settings.guard.terms_dir / "house.txt").open("a", encoding="utf-8") as file:
        file.write("another\n")
    found = evidence_rules.sections(evidence.gather(settings, evidence.Asking("2026-10")))
    (words,) = [section for section in found if section.id == "words"]
    assert str(words.lines[-1].value) == "2 -> 3 terms"


def test_lists_that_came_and_went_are_changes(settings: Settings) -> None:
    old, new = WordList("old", 5, "a", "2026-01-01"), WordList("new", 7, "b", "2026-01-01")
    found = evidence_rules.sections(facts(settings, lists=(new,), lists_before=(old,)))
    (words,) = [section for section in found if section.id == "words"]
    assert [str(line.value) for line in words.lines[-2:]] == ["0 -> 7 terms", "5 -> 0 terms"]


def test_a_month_that_is_over_is_signed_and_a_change_is_found(settings: Settings) -> None:
    made = evidence_file.write(
        settings, evidence.gather(settings, evidence.Asking("2026-10")), LATER_S
    )
    assert made[-1].name == "report-2026-10.sig.json"
    assert compliance_files.sealed_months(settings) == ["2026-10"]
    page = made[1].read_text("utf-8")
    made[1].write_text(page.replace("3, of which", "0, of which"), "utf-8")
    assert compliance_files.sealed_months(settings) == []


def written(settings: Settings, again: str | None = None) -> list[Path]:
    found = evidence.gather(settings, evidence.Asking("2026-10"))
    return evidence_file.write(settings, found, LATER_S, again)


def faults(settings: Settings) -> list[str]:
    return compliance_files.faults(settings, "2026-10", signer(settings).public)


def test_a_month_that_was_signed_is_not_written_over(settings: Settings) -> None:
    before = [path.read_bytes() for path in written(settings)]
    with pytest.raises(ProblemError, match=r"signed already \(report-2026-10\.sig\.json\)") as told:
        written(settings)
    assert "--again WHY` writes revision 2" in told.value.remedy
    made = [compliance_files.folder(settings) / "2026-10" / name for name in (
        "report-2026-10.html", "report-2026-10.en.html", "evidence.json",
        "report-2026-10.sig.json")]  # fmt: skip
    assert [path.read_bytes() for path in made] == before


def test_a_revision_names_what_it_replaces_and_keeps_it(settings: Settings) -> None:
    first = written(settings)
    second = written(settings, "filing number <added>")
    third = written(settings, "again")
    assert [path.name for path in second] == [
        "report-2026-10.r2.html", "report-2026-10.r2.en.html", "evidence.r2.json",
        "report-2026-10.r2.sig.json"]  # fmt: skip
    kept = json.loads(second[2].read_bytes())
    assert (kept["revision"], kept["replaces"]) == (2, "report-2026-10.sig.json")
    assert kept["replaces_sha256"] == hashlib.sha256(first[3].read_bytes()).hexdigest()
    page = second[1].read_text("utf-8")
    assert "it replaces report-2026-10.sig.json" in page
    assert "because: filing number &lt;added&gt;" in page
    assert json.loads(third[2].read_bytes())["replaces"] == "report-2026-10.r2.sig.json"
    assert faults(settings) == []
    assert compliance_files.sealed_months(settings) == ["2026-10"]


def test_a_revision_that_was_changed_or_removed_breaks_the_chain(settings: Settings) -> None:
    first, second = written(settings), written(settings, "x")
    written(settings, "y")
    kept = first[0].read_bytes()
    first[0].write_text("other", "utf-8")
    assert [str(one) for one in faults(settings)] == ["report-2026-10.html was changed"]
    with pytest.raises(ProblemError, match="is not whole"):
        written(settings, "z")
    first[0].write_bytes(kept)
    assert faults(settings) == []
    second[3].unlink()
    told = [str(one) for one in faults(settings)]
    assert "the signature of revision 2 is gone: report-2026-10.r2.sig.json" in told
    assert "report-2026-10.r2.sig.json is not there" in told
    assert compliance_files.sealed_months(settings) == []


def test_a_last_revision_that_was_removed_is_missed(settings: Settings) -> None:
    first, last = written(settings), written(settings, "x")
    head = last[0].with_name(compliance_files.HEAD)
    for path in last:
        path.unlink()
    assert [str(one) for one in faults(settings)] == ["report-2026-10.r2.sig.json is not there"]
    assert compliance_files.sealed_months(settings) == []
    with pytest.raises(ProblemError, match="is not whole"):
        written(settings, "another second")
    signed = head.read_bytes()
    head.unlink()
    assert [one.key for one in faults(settings) if isinstance(one, Said)] == ["evidence.no_head"]
    head.write_bytes(signed)
    for path in first:
        path.unlink()
    with pytest.raises(ProblemError, match="is not whole"):
        written(settings)


def test_reports_that_were_signed_before_there_was_a_head_still_hold(settings: Settings) -> None:
    made = written(settings)
    head = made[0].with_name(compliance_files.HEAD)
    head.unlink()
    body = json.loads(made[2].read_bytes())
    del body["head"]
    made[2].write_text(json.dumps(body), "utf-8")
    compliance_files.seal(settings, made[:3], made[0])
    assert faults(settings) == []
    written(settings, "x")
    assert head.exists()
    assert faults(settings) == []


def test_a_run_killed_between_seal_and_head_leaves_no_fault(settings: Settings) -> None:
    first = written(settings)
    head = first[0].with_name(compliance_files.HEAD)
    signed = head.read_bytes()
    written(settings, "x")
    head.write_bytes(signed)
    assert faults(settings) == []


def test_two_runs_do_not_write_at_once(settings: Settings) -> None:
    written(settings)
    with (compliance_files.folder(settings) / evidence_file.LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ProblemError, match="another `ballast evidence write`"):
            written(settings, "x")
    written(settings, "x")


def test_a_first_revision_that_was_signed_anew_does_not_fit_the_second(settings: Settings) -> None:
    first = written(settings)
    written(settings, "x")
    first[1].write_text("made up later", "utf-8")
    compliance_files.seal(settings, first[:3], first[0])
    assert [str(one) for one in faults(settings)] == ["report-2026-10.sig.json was changed"]


def test_a_second_revision_signed_without_the_first_is_found(settings: Settings) -> None:
    written(settings)
    second = written(settings, "x")
    compliance_files.seal(settings, second[:3], second[0])
    assert [one.key for one in faults(settings) if isinstance(one, Said)] == ["evidence.unchained"]


@pytest.mark.parametrize(("again", "said"), [("x", "no signed report"), (" ", "no signed report")])
def test_nothing_is_replaced_where_nothing_was_signed(
    settings: Settings, again: str, said: str
) -> None:
    with pytest.raises(ProblemError, match=said):
        written(settings, again)


@pytest.mark.parametrize("again", ["", "  ", "x" * 501])
def test_a_revision_needs_a_reason(settings: Settings, again: str) -> None:
    written(settings)
    with pytest.raises(ProblemError, match="tells no reason"):
        written(settings, again)


def test_a_month_under_way_is_a_draft(settings: Settings) -> None:
    found = evidence.gather(settings, evidence.Asking("2026-11"))
    made = evidence_file.write(settings, found, LATER_S)
    assert not any(path.name.endswith(".sig.json") for path in made)
    assert compliance_files.sealed_months(settings) == []
    assert "草稿未签名" in made[0].read_text("utf-8")


def test_the_pages_stand_alone_in_both_languages(settings: Settings) -> None:
    made = evidence_file.write(
        settings, evidence.gather(settings, evidence.Asking("2026-10")), LATER_S
    )
    for path, is_chinese in ((made[0], True), (made[1], False)):
        page = path.read_text("utf-8")
        assert not re.search(r"<script|<link|<img|@import|url\(", page)
        assert bool(re.search(r"[\u4e00-\u9fff]", page)) == is_chinese
        assert "evidence." not in page.replace("ballast evidence", "").replace(
            "ballast/evidence_sets", ""
        )
        assert "forbidden thing" not in page


def test_the_commands_write_check_and_refuse(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    up = settings.model_dump(mode="json", exclude_none=True)
    (settings.state_dir / "up.yaml").write_text(json.dumps(up), "utf-8")
    runner = CliRunner()
    assert runner.invoke(app, ["evidence", "write", "--month", "2026-10"]).exit_code == 0
    assert "--again WHY" in runner.invoke(app, ["evidence", "write", "--month", "2026-10"]).stderr
    again = ["evidence", "write", "--month", "2026-10", "--again", "number added"]
    assert runner.invoke(app, again).exit_code == 0
    checked = runner.invoke(app, ["evidence", "check", "2026-10"])
    assert (checked.exit_code, "revisions: 2" in checked.stdout) == (0, True)
    assert runner.invoke(app, ["evidence", "write", "--month", "2026-11"]).exit_code == 0
    assert "is a draft" in runner.invoke(app, ["evidence", "check", "2026-11"]).stdout
    shown = runner.invoke(app, ["evidence", "show", "--month", "2026-10", "--lang", "zh"])
    assert "备案号" in shown.output
    for words, said in (
        (["check", "2026-01"], "no report"), (["show", "--month", "2026-13"], "no month"),
        (["show", "--month", "2100-01"], "not begun"), (["check", "../x"], "no month"),
    ):  # fmt: skip
        told = runner.invoke(app, ["evidence", *words])
        assert told.exit_code == 1
        assert said in told.stderr
