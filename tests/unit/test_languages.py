"""Chinese beside English wherever people read: pages, the console, reports, alerts, tables."""

from __future__ import annotations

import ast
import io
import itertools
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from ballast import (
    board,
    doctor,
    explain_cli,
    messages,
    printing,
    problem,
    sentences,
    simulate_run,
    status,
)
from ballast.alerting import cards
from ballast.messages import chosen, tell
from ballast.wide import Wide, pad
from benchmarks import telling
from benchmarks.load import wording
from benchmarks.load.invalid import Why
from models import catalog, flags, gates, gpu, sharing
from models.layout import Layout
from models.rules import cautions, refusals
from serving.audit import report
from serving.settings import SettingsError, load

ROOT = Path(__file__).resolve().parents[2]
CHINESE = re.compile("[\u4e00-\u9fff]")
MODULES = sorted(
    str(path.relative_to(ROOT / "ballast").with_suffix(""))
    for path in (ROOT / "ballast").rglob("*.py")
)
PROSE = re.compile(r"[A-Za-z]{2,},? [a-z]{2,} [a-z]{2,}|[a-z]{3,} [a-z]{3,}\b")
HEADS = {key.removeprefix("admin.column.") for key in messages.entries("admin")}
"""Of tables: they go by their English name, `>` before it aligns to the right."""
NOT_FOR_PEOPLE = {
    "acts.py": {"others wrote it ", " times first"},  # of the store, told as it is
    "alerting/bridge.py": {  # what answers programs
        "Groups by robot and what became of them", "its answer is no JSON",
        "show the token of `token_file` as a bearer token",
        "a robot is slower than its news; send it again", "no Alertmanager webhook of version 4: ",
    },
    "alerting/cards.py": {"this week", "Silence this alert"},  # has its own book
    "alerting/settings.py": {  # of a service's start, for its log
        "see docs/alerts.md for an example", "token_file: needed when `host` is not loopback",
        "robots: two have the same name", ".url_file: holds no https address",
    },
    "audit_files.py": {  # of a bundle for auditors, English whoever makes it
        "the beginning", "calls that left from ", " (UTC, the end left out)\nonly: ",
    },
    "evidence_guard.py": {"请解释：{term}。 Please explain: {term}."},  # a question in both
    "evidence_rules.py": {  # commands
        "ballast review list", "ballast audit verify", "ballast audit query", "ballast history",
        "ballast tenants list",
    },
    "identity_cli.py": {  # a file's head, and commands
        "# The owner, by the HMAC of its key. Made by `ballast identity`.\n",
        "kubectl create secret generic ballast-identity --namespace llm \\\n",
        "\nkubectl create secret generic ballast-ray --namespace llm \\\n  --from-file=",
    },
    "messages/__init__.py": {" is not there"},  # ours
    "messages/chosen.py": {": zh or en"},  # before there is a language
    "overlay.py": {  # of a file
        "not checked", "a closed loop was predicted ", " per token and ", " to first token",
    },
    "planning_commit.py": {"by the hour"},  # names of messages of plan.name, up to the next file
    "planning_cost.py": {"pure self-hosted", "by the hour"},
    "planning_even.py": {
        "the first GPU pays its rent (no people, no other costs)", "hybrid, all costs",
        "pure self-hosted", "pure self-hosted, all costs", "cloud-hosted, all costs",
    },
    "planning_fleet.py": {"by the hour"},
    "planning_market.py": {
        "as the scenario says", ": named by the scenario",  # the second is a source
        "it was ranked", "it was ranked with a price", "callers_max is within the objective",
    },
    "planning_report.py": {"the table's hidden price"},
    "planning_values.py": {"api price", "gpu price", "output tokens", "spread of demand"},
    "poc_gates.py": {"nothing lacks"},  # of an assertion
    "poc_left.py": {"poc run"},  # why, in the history of administration
    "poc_run.py": {" requests replayed"},  # a scenario's title, its Chinese one beside it
    "admin_cli.py": {  # of admin.done
        "made tenant", "changed tenant", "removed tenant", "let flow again",
        "removed administrator", "let in again tenant", "suspended tenant",
    },
    "planning_page.py": {"pure self-hosted", "by the hour"},
    "rollout_cli.py": {"took back"},
    "projects_cli.py": {"made project", "removed project"},
    "terms_cli.py": {"changed key", "removed key"},
    "budgets_cli.py": {"set budget", "raised budget", "removed budget"},  # of admin.done
    "evaluating.py": {"larger than an answer may be"},  # of an answer that counts as none
    "cli.py": {"[bold red]ballast:[/] "},
    "models_tables.py": {"bold red"},
    "keys_cli.py": {
        # what `done` is told: names of messages of the group admin.done
        "made key", "rotated key", "revoked key", "approved request", "refused request",
        "fetched the key of request",
    },
    "doctor.py": {"open files", "shared memory"},  # names of messages of doctor.subject
}  # fmt: skip


def words_of(name: str) -> Iterator[tuple[int, str]]:
    """Texts of a module but docstrings and help, which are for `--help`."""
    tree = ast.parse((ROOT / "ballast" / name).read_text("utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.keyword) and node.arg == "help":
            skipped |= {id(part) for part in ast.walk(node.value)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in skipped:
            yield node.lineno, node.value


def is_page(text: str) -> bool:
    """A page or a body in full, which has its own two languages or none."""
    return text.startswith(("<!doctype", '","messages"'))


@pytest.mark.parametrize("name", MODULES)
def test_no_module_says_anything_past_the_catalogue(name: str) -> None:
    allowed = NOT_FOR_PEOPLE.get(f"{name}.py", set())
    prose = [
        (line, text)
        for line, text in words_of(f"{name}.py")
        if PROSE.search(re.sub("`[^`]*`", "", text))  # commands stay
        and text.lstrip("<>") not in HEADS
        and not is_page(text)
    ]
    found = [f"ballast/{name}.py:{line}: {text!r}" for line, text in prose if text not in allowed]
    assert not found, "put it into ballast/messages/*.yaml, in both languages:\n" + "\n".join(found)
    gone = allowed - {text for _, text in prose}
    assert not gone, f"no longer there, take it out of NOT_FOR_PEOPLE: {sorted(gone)}"


SHOWS = {"echo", "print", "show", "add_column", "add_task", "secho", "ProblemError"}
WORD = re.compile(r"(?<![\w`/.-])[A-Za-z][a-z]{2,}(?![\w/.=-])")
SHOWN_AS_IT_IS = {
    "ballast ",  # the product and its version
    "curl ", " -H 'Authorization: Bearer ",  # a command
    "[bold red]ballast:[/] ", "port ", "see docs/alerts.md for an example",  # of a service's start
}  # fmt: skip


def shown_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Texts that stand in a call that shows something, marks of colour and commands taken out."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        if getattr(node.func, "id", getattr(node.func, "attr", "")) not in SHOWS:
            continue
        for given in node.args:
            pieces = given.values if isinstance(given, ast.JoinedStr) else [given]
            for piece in pieces:
                if isinstance(piece, ast.Constant) and isinstance(piece.value, str):
                    yield node.lineno, piece.value


def test_nothing_is_shown_as_a_literal_text() -> None:
    paths = [*(ROOT / "ballast").rglob("*.py"), *(ROOT / "benchmarks/load").glob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}"
        for path in sorted(paths)
        for line, text in shown_texts(path)
        if text not in SHOWN_AS_IT_IS and WORD.search(re.sub(r"`[^`]*`|\[[^\]]*\]", "", text))
    ]
    assert not found, "say it by the catalogue, in both languages:\n" + "\n".join(found)


def shape(page: Path) -> tuple[list[str], list[int]]:
    """Depths of a page's headings in order, and after which of them a block of code stands."""
    depths: list[str] = []
    blocks: list[int] = []
    is_code = False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```"):
            is_code = not is_code
            blocks += [len(depths)] if is_code else []
        elif not is_code and re.match("#+ ", line):
            depths.append(line.partition(" ")[0])
    return depths, blocks


def test_the_chinese_readme_has_the_sections_and_commands_of_the_english_one() -> None:
    assert shape(ROOT / "README.zh.md") == shape(ROOT / "README.md"), (
        "README.md and README.zh.md are one text in two languages: change both"
    )


CHINESE_PAGES = sorted((ROOT / "docs").glob("*.zh.md"))
OPENED_FIRST = {"deploy", "first-week", "guard", "routing", "runbooks", "governance", "ledger"}
"""Pages that whoever sets Ballast up opens first: these have a Chinese one."""


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=lambda page: page.name)
def test_a_chinese_page_has_the_sections_and_code_of_the_english_one(page: Path) -> None:
    other = page.with_name(page.name.replace(".zh.md", ".md"))
    assert other.is_file(), page
    assert CHINESE.search(page.read_text("utf-8"))
    assert shape(page) == shape(other), f"{page.name} and {other.name} are one text: change both"
    assert page.name in other.read_text("utf-8"), f"{other.name} does not say that {page.name} is"


def test_pages_that_are_opened_first_are_there_in_chinese() -> None:
    assert {page.name.removesuffix(".zh.md") for page in CHINESE_PAGES} >= OPENED_FIRST


def console_words() -> dict[str, dict[str, str]]:
    """The console's script: a block for each language, `key: "text"` inside."""
    text = (ROOT / "serving/api/console/static/words.js").read_text("utf-8")
    parts = re.split(r"(?m)^  (en|zh): \{$", text)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {
        language: dict(re.findall(r'(\w+): "((?:[^"\\]|\\.)*)"', block))
        for language, block in found.items()
    }


BOOKS: dict[str, dict[str, Mapping[str, str]]] = {
    "the console": {**console_words()},
    "the audit report": {**report.WORDS},
    "alert cards": {**cards._WORDS},
    "load tests": {
        "en": {key: texts[0] for key, texts in wording.WORDS.items()},
        "zh": {key: texts[1] for key, texts in wording.WORDS.items()},
    },
}


@pytest.mark.parametrize("name", BOOKS)
def test_words_kept_elsewhere_keep_the_catalogues_rules(name: str) -> None:
    book = BOOKS[name]
    assert set(book) == {"en", "zh"}
    assert book["en"].keys() == book["zh"].keys() != set()
    for key, english in book["en"].items():
        chinese = book["zh"][key]
        fields = [sorted(f or "" for _, f, _, _ in string.Formatter().parse(t) if f is not None)
                  for t in (english, chinese)]  # fmt: skip
        assert fields[0] == fields[1], key
        is_one = key == "language" or not re.search("[a-z]{4}", english)
        assert is_one or CHINESE.search(chinese), key


def test_every_finding_of_the_doctor_can_be_told_in_chinese() -> None:
    from ballast.probe import Facts, Port

    bad = Facts(
        python=(3, 9), ram_bytes=1, ram_free_bytes=1, cores=1, shm_bytes=1, open_files_max=1,
        utc_s=0.0, cpu_flags=frozenset(), packages={}, folders={"state": (Path("s"), False, 1)},
        leftovers=(7,), ports_taken=(Port(8080, "nginx"),), soft_ports_taken=(Port(8265, ""),),
        environ={"RAY_ADDRESS": "x", "RAY_AUTH_TOKEN": "y", "http_proxy": "z"},
    )  # fmt: skip
    findings = doctor.examine(bad)
    assert len(findings) > 12
    for finding in findings:
        told = tell(finding.text, "zh")
        assert CHINESE.search(told), finding
        assert not CHINESE.search(str(finding.text)), "English for programs"


def test_columns_of_chinese_tables_stand_below_each_other() -> None:
    replica = {"id": "m@127.0.0.1:1", "address": "127.0.0.1:1", "unfinished": 1, "waiting": 0,
               "running": 1, "kv": 0.5, "breaker": "closed"}  # fmt: skip
    found = {
        "fleet": {"models": {"模型甲": {"replicas": [replica]}, "m": {"replicas": [replica]}}},
        "signals": {"models": {}}, "decisions": [], "controller": [], "money": {},
    }  # fmt: skip
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(status.tables(found, "zh"))
    lines = console.export_text().splitlines()
    head = next(line for line in lines if "目标" in line)
    starts = {cell_len(line.partition("m@127")[0]) for line in lines if "m@127" in line}
    assert starts == {cell_len(head.partition("目标")[0])}
    assert [cell_len(pad(text, 10)) for text in ("网关", "gateway", "")] == [10, 10, 10]


def test_a_part_that_comes_up_is_told_in_chinese() -> None:
    event = {"event": "weights_ready", "model": "m", "seconds": 3}
    assert board.describe(event, "zh") == ("starting", "m 的权重 3 秒后就绪")


def test_a_request_is_explained_in_chinese_with_its_codes_as_they_are() -> None:
    line = {
        "request_id": "r1", "outcome": "refused", "status": 503, "reason": "full", "code": "",
        "key_id": "k", "tenant": "t", "project": "p", "model": "m", "surface": "chat",
        "latency_class": "live", "received_ms": 0, "attempts": 0, "queue_ms": 0,
        "first_token_ms": -1, "total_ms": 4, "prompt_tokens": 0, "completion_tokens": 0,
    }  # fmt: skip
    told = dict(sentences.sentences(line, (), is_booked=False, language="zh"))
    assert told["请求"] == "r1 被拒绝（HTTP 503）。"
    assert told["去向"] == ("没有发往任何地方，因为所有引擎都满，且没有一个能及时空出（full）。")
    assert told["费用"] == "没有费用。"


def test_a_long_chinese_sentence_goes_on_in_the_next_line_and_loses_nothing() -> None:
    text = "以模型名smollm2-135m-instruct调用了chat，" * 6
    console = Console(width=50, record=True, file=io.StringIO())
    console.print(explain_cli.story([("调用", text)]))
    lines = console.export_text().splitlines()
    assert len(lines) > 3
    assert all(cell_len(line) <= 50 for line in lines)
    assert "".join(lines).replace("调用", "", 1).replace(" ", "") == text


def test_a_tables_heads_are_told_in_the_language_and_chosen_by_their_english_names() -> None:
    console = Console(width=30, record=True, file=io.StringIO())
    with chosen.speaking("zh"):
        console.print(
            Wide(("model", ">CNY/h", "weights"), [("m" * 12, "1.0", "w" * 9)], ("weights",))
        )
    shown = console.export_text()
    assert "元/小时" in shown
    assert "宽度不够，省略了：权重" in shown.replace("\n", "")


def test_a_message_is_plain_english_text_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    with chosen.speaking("zh"):
        printing.print_json({"why": messages.Said("cli.mend_settings")})
    assert capsys.readouterr().out.split() == [
        "{", '"why":', '"mend', "the", "settings", "it", 'names"', "}"
    ]  # fmt: skip


def test_why_a_load_test_is_invalid_is_told_by_code_in_both_languages() -> None:
    why = Why("few", {"count": "3", "least": "20"})
    assert why.told("en").startswith("only 3 answers")
    assert why.told("zh") == "只有 3 个应答：太少，算不出百分位（至少 20）"
    assert telling.noted(wording.word("inexact", "en"), "zh").startswith("提示长度不精确")
    assert telling.noted("something else", "zh") == "something else"


def test_a_controllers_reason_is_told_by_code_and_an_older_one_as_it_is() -> None:
    why = "0 ready are too few: queue 1, shed 0, burst 0, running 0"
    calls = {"code": "scale.calls", "text": "queue 1, shed 0, burst 0, running 0", "values": {
        "queued": 1, "shed": 0, "burst": 0, "running": 0, "note": ""}}  # fmt: skip
    said = {"code": "scale.few", "text": why, "values": {"ready": 0, "why": calls}}
    rows = [
        {"at_ms": 0, "model": "m", "decision": "scale to 1", "replicas": 1, "reason": why,
         "said": said},
        {"at_ms": 0, "model": "m", "decision": "hold", "reason": "as it was", "said": None},
    ]  # fmt: skip
    found = {"fleet": {}, "signals": {}, "decisions": [], "money": {},
             "controller": {"decisions": rows, "standing": {"leads": True}}}  # fmt: skip
    shown = {}
    for language in messages.LANGUAGES:
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(status.tables(found, language))
        shown[language] = console.export_text()
    assert "调到 1 个" in shown["zh"]
    assert "0 个就绪副本不够：排队 1，拒绝 0，转 API 0，运行 0" in shown["zh"]
    assert "as it was" in shown["zh"]
    assert why in shown["en"]
    assert "scale to 1" in shown["en"]


def test_settings_at_fault_are_named_in_chinese_and_in_english_the_same(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("gateway: {port: x}\nmodelz: 3\ncontroller: {tick_s: -1}", "utf-8")
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    told = tell(problem.worded(caught.value), "zh").splitlines()
    english = str(caught.value).splitlines()
    assert told[0] == f"配置有误（{file}，以及环境变量和命令行参数）："
    assert "  modelz：没有这一项；请检查拼写" in told
    assert "  modelz: no such setting; mind the spelling" in english
    assert len(told) == len(english)
    assert all(CHINESE.search(line) for line in told)


def test_what_a_simulation_is_asked_wrongly_is_told_in_the_language() -> None:
    with pytest.raises(problem.ProblemError) as caught:
        simulate_run._outages(["9-3"])
    assert caught.value.told("zh") == ("--outage：'9-3' 的结束早于开始", "把两个数对调")
    assert caught.value.told("en")[0] == "--outage: '9-3' ends before it begins"


def test_what_the_rules_of_gpus_refuse_and_mind_is_told_in_chinese() -> None:
    cards, kinds = catalog.load().cards.values(), gpu.load().gpus.values()
    found: set[str] = set()
    for card, kind, tensor in itertools.product(cards, kinds, (1, 3, 8)):
        layout = Layout(
            card.id, next(iter(card.variants)), kind.id, tensor, data=2, is_expert_parallel=True,
            context_tokens=card.context.native + 1, sequences=4, batched_tokens=2048,
            features=frozenset({"fp8_kv", "speculation", "lora", "prefix_caching", "sleep"}),
        )  # fmt: skip
        found |= {*refusals(card, kind, layout), *cautions(card, kind, layout)}
        found |= {*gates.settled(card, kind, layout).dropped}
    assert len(found) > 40
    assert [said for said in found if not CHINESE.search(tell(said, "zh"))] == []


def test_each_flag_of_an_engine_says_why_in_chinese_but_for_what_its_card_says() -> None:
    of_cards = {"--model", "--trust-remote-code"}
    for card in catalog.load().cards.values():
        for kind in gpu.load().gpus.values():
            layout = Layout(card.id, next(iter(card.variants)), kind.id, 8, data=1,
                            is_expert_parallel=False, context_tokens=8192, sequences=4,
                            batched_tokens=2048)  # fmt: skip
            for flag in flags.said(card, kind, layout, flags.Start()):
                told = tell(flag.reason, "zh")
                assert flag.name in of_cards or CHINESE.search(told), flag


def test_models_that_do_not_share_a_gpu_are_told_so_in_chinese() -> None:
    known = catalog.load()
    wishes = [sharing.Wish(known.card(name), "bf16") for name in ("qwen3-32b", "qwen3-8b")]
    found = sharing.share(gpu.load().gpu("a100-80"), 1, wishes)
    assert isinstance(found, sharing.NotShared)
    (why,) = found.reasons
    assert tell(why, "zh").startswith("GPU 0：qwen3-32b/bf16")
    assert "还差" in tell(why, "zh")
    assert "GiB short" in str(why)
