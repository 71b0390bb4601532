"""Chains, checkpoints and reports: what is altered anywhere shows, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscale.checkpoints import following, moved
from serving.audit import anchor, report, sign
from serving.audit.settings import AuditSettings
from serving.audit.sign import Signer
from serving.audit.values import Chained, Head, Question, Signed, asked, class_name
from serving.audit.verify import Anchored, Chain, Fault, differing, stale, stray
from serving.directory.chain import GENESIS, Entry
from serving.ledger.chained import next_entry
from serving.rows import EgressIntent
from serving.settings import SettingsError


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    path = tmp_path_factory.mktemp("key") / "audit-key.pem"
    path.write_text(sign.new_key())
    return sign.read_key(path)


def intent(number: int, **more: Any) -> EgressIntent:
    row = EgressIntent(
        f"{number:032x}", 1, 1000 + number, "acme", 1, "key:anywhere", "us", "alpha", "big"
    )
    return msgspec.structs.replace(row, **more)


def chain(count: int) -> list[Entry]:
    made: list[Entry] = []
    number, mark = 0, GENESIS
    for index in range(count):
        entry = next_entry(number, mark, intent(index))
        number, mark = entry.number, entry.hash
        made.append(entry)
    return made


def anchored(signer: Signer, *steps: list[Head]) -> tuple[Anchored, list[Signed]]:
    """Checkpoints after each step, and what has taken them."""
    taken, made, last = Anchored(signer.public), [], None
    for at_ms, heads in enumerate(steps, 1):
        last = signer.seal(following(last, heads, at_ms))
        made.append(last)
        taken.take(last)
    return taken, made


def faults_of(entries: list[Entry], seen: dict[int, bytes]) -> list[Fault]:
    examined = Chain("life", seen)
    for at in range(0, len(entries), 3):
        examined.take(entries[at : at + 3])
    return examined.faults()


def test_a_whole_chain_holds_and_its_checkpoints_too(signer: Signer) -> None:
    entries = chain(8)
    heads = [[Head("life", e.number, e.hash)] for e in (entries[2], entries[7])]
    taken, _ = anchored(signer, *heads)
    assert taken.faults == []
    assert faults_of(entries, taken.seen["life"]) == []


@given(st.data())
def test_any_edit_deletion_swap_or_cut_shows(data: st.DataObject) -> None:
    entries = chain(8)
    seen = {entries[-1].number: entries[-1].hash}
    at = data.draw(st.integers(0, 7))
    kind = data.draw(st.sampled_from(["edit", "delete", "swap", "cut", "rewrite"]))
    if kind == "edit":
        flipped = bytes([entries[at].data[0] ^ 1]) + entries[at].data[1:]
        entries[at] = entries[at]._replace(data=flipped)
    elif kind == "delete":
        del entries[at]
    elif kind == "swap":
        other = data.draw(st.integers(0, 7).filter(lambda n: n != at))
        entries[at], entries[other] = entries[other], entries[at]
    elif kind == "cut":
        entries = entries[:at]
    else:  # all of it anew, consistent in itself
        number, mark, anew = 0, GENESIS, list[Entry]()
        for index in range(8):
            tenant = "other" if index == at else "acme"
            entry = next_entry(number, mark, intent(index, tenant=tenant))
            number, mark = entry.number, entry.hash
            anew.append(entry)
        entries = anew
    assert faults_of(entries, seen)


def test_a_cut_since_the_last_checkpoint_is_all_that_does_not_show() -> None:
    entries = chain(8)
    assert faults_of(entries[:6], {5: entries[4].hash}) == []


@pytest.mark.parametrize("what", ["forged", "edited", "missing", "other key", "reordered"])
def test_an_altered_anchor_shows(signer: Signer, what: str) -> None:
    entries = chain(6)
    _, made = anchored(signer, *[[Head("life", e.number, e.hash)] for e in entries[::2]])
    if what == "forged":
        made[1] = msgspec.structs.replace(made[1], signature="00" * 64)
    elif what == "edited":
        made[1] = msgspec.structs.replace(made[1], heads=(("life", 3, "ab" * 32),))
    elif what == "missing":
        del made[1]
    elif what == "reordered":
        made[0], made[1] = made[1], made[0]
    else:
        made[1] = msgspec.structs.replace(made[1], key="f" * 32)
    taken = Anchored(signer.public)
    for checkpoint in made:
        taken.take(checkpoint)
    assert taken.faults
    assert {fault.writer for fault in taken.faults} == {"anchor"}


def test_a_row_that_differs_from_its_chain_or_is_gone_is_told() -> None:
    entries = chain(3)
    rows = [intent(0), intent(1, jurisdiction="cn"), None]
    found = differing([Chained(e, r) for e, r in zip(entries, rows, strict=True)], "life")
    assert [(f.writer, f.number) for f in found] == [("intents", 2), ("intents", 3)]
    assert "differs" in found[0].what
    assert "gone" in found[1].what


def test_rows_from_before_chains_were_kept_are_nobodys_fault() -> None:
    assert stray(7, 50, since_ms=100) == []
    assert stray(7, 150, since_ms=0) == []
    assert stray(7, 150, since_ms=100)


def test_a_checkpoint_holds_what_moved_and_nothing_twice() -> None:
    heads = [Head("a", 3, b"x"), Head("b", 5, b"y"), Head("c", 1, b"z")]
    assert [h.writer for h in moved(heads, {"a": 3, "b": 4})] == ["b", "c"]
    assert moved(heads, {"a": 3, "b": 5, "c": 1}) == []


def test_a_torn_line_is_closed_by_a_mark_and_others_are_faults(
    signer: Signer, tmp_path: Path
) -> None:
    path = tmp_path / "anchor.jsonl"
    _, made = anchored(signer, [Head("a", 1, b"x")], [Head("a", 2, b"y")])
    for checkpoint in made:
        anchor.append(path, checkpoint)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number":3,')
    assert list(anchor.read(path)) == made
    anchor.mend(path)
    assert path.read_bytes() == whole + b'{"number":3,\n{"torn":12}\n'
    anchor.append(path, made[-1])
    assert list(anchor.read(path)) == [*made, made[-1]]
    path.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(anchor.AnchorFault, match="line 1"):
        list(anchor.read(path))
    assert list(anchor.read(tmp_path / "none")) == []


@pytest.mark.parametrize("kept", range(1, 24, 3))
def test_a_mark_that_was_torn_itself_is_closed_as_well(
    signer: Signer, tmp_path: Path, kept: int
) -> None:
    path = tmp_path / "anchor.jsonl"
    _, made = anchored(signer, [Head("a", 1, b"x")])
    anchor.append(path, made[0])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number":2,')
    anchor.mend(path)
    path.write_bytes(path.read_bytes()[: len(whole) + kept])
    anchor.mend(path)
    once = path.read_bytes()
    anchor.mend(path)
    assert path.read_bytes() == once, "a closed line is left alone"
    anchor.append(path, made[0])
    assert list(anchor.read(path)) == [made[0], made[0]]


def test_what_stands_elsewhere_and_not_here_is_a_fault(signer: Signer) -> None:
    _, made = anchored(signer, [Head("a", 1, b"x")], [Head("a", 2, b"y")], [Head("a", 3, b"z")])
    cut = Anchored(signer.public)
    cut.take(made[0])
    assert [cut.compare(one, "the copy") for one in made] == [True, False, False]
    assert [(f.number, "cut off" in f.what) for f in cut.faults] == [(2, True)]
    assert cut.seen["a"] == {1: b"x", 2: b"y", 3: b"z"}, "what they saw is looked for all the same"
    other = Anchored(signer.public)
    for one in made:
        other.take(one)
    forged = msgspec.structs.replace(made[1], at_ms=77)
    assert not other.compare(forged, "the copy")
    assert [f.what for f in other.faults] == ["the copy holds another one of this number"]


def test_an_old_last_checkpoint_shows_that_nobody_signs() -> None:
    assert stale((7, 1_000_000), 1_180_000, 60) == []
    (fault,) = stale((7, 1_000_000), 1_180_001, 60)
    assert (fault.number, "nobody signs" in fault.what) == (7, True)
    assert stale((7, 1_000_000), 0, 60) == [], "nobody asked"
    assert stale((0, 0), 10**12, 60) == [], "there is none: that is said otherwise"


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nx\n"])
def test_a_file_that_holds_no_key_is_refused_without_its_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(SettingsError, match="Ed25519") as fault:
        sign.read_key(path)
    assert not text or text.split()[0] not in str(fault.value)


def test_a_tenants_customers_are_asked_for_by_comparison_not_by_pattern() -> None:
    text, values = asked(Question(tenant="a%_", sensitivity=0, provider="x"))
    assert "LIKE" not in text
    assert (values["lowest"], values["highest"]) == ("a%_/", "a%_0")
    assert values["sensitivity"] == 0


class Examined(NamedTuple):
    faults: list[Any]
    entries: int = 5
    writers: int = 2
    checkpoints: int = 1
    last_ms: int = 1_700_000_000_000


PRINTED = report.Printed("r.html", "r.csv", "ab" * 16, 1_700_000_000_000)


def page(rows: list[EgressIntent], lang: str = "en", faults: Any = ()) -> str:
    found = report.Gathered()
    for row in rows:
        found.take(row)
    scope = report.Scope(0, 1_800_000_000_000, sensitivity="personal")
    return report.page(scope, found, Examined(list(faults)), PRINTED, lang)


@pytest.mark.parametrize("lang", sorted(report.WORDS))
def test_a_report_answers_whether_anything_left_the_mainland(lang: str) -> None:
    words = report.WORDS[lang]
    at_home, abroad = intent(1, jurisdiction="cn"), intent(2)
    assert words["none"] in page([], lang)
    assert words["no_abroad"] in page([at_home], lang)
    text = page([at_home, abroad, abroad], lang)
    assert f"2 {words['abroad']}" in text
    assert words["no_abroad"] not in text
    assert f"<html lang={lang}>" in text


def test_both_languages_have_all_words() -> None:
    first, *others = report.WORDS.values()
    assert all(words.keys() == first.keys() for words in others)


def test_a_broken_record_is_said_in_the_report() -> None:
    assert "BROKEN" in page([], faults=[("life", 3, "entry 3 was changed")])


@given(st.text(max_size=40), st.sampled_from(sorted(report.WORDS)))
def test_no_value_can_write_into_the_page(text: str, lang: str) -> None:
    evil = f"<script>{text}</script>&\"'"
    out = page([intent(1, tenant=evil, upstream_model=evil, provider=evil)], lang)
    assert "<script" not in out


@given(st.text(max_size=20))
def test_no_cell_is_a_formula(text: str) -> None:
    line = report.csv_line((text, "=1+1"))
    assert line.endswith('"\'=1+1"\r\n')
    assert not line.startswith(('"=', '"+', '"-', '"@'))


def test_classes_have_names_and_unknown_ones_a_number() -> None:
    assert [class_name(n) for n in (0, 3, 9)] == ["public", "secret", "class 9"]


def test_the_settings_take_no_password_in_an_address() -> None:
    with pytest.raises(ValueError, match="anchor_url"):
        AuditSettings(anchor_url="https://user:pw@example.com/")
    assert json.loads(AuditSettings().model_dump_json())["every_s"] == 60
