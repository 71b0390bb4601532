"""The console in a real Chromium, on a real gateway among the fakes: seen, used, and refused.

Set `CONSOLE_PICTURES` to a folder to keep the screenshots and look at them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from contextlib import asynccontextmanager, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Formatter
from typing import get_args

import msgspec
import pytest
from playwright.async_api import async_playwright, expect

from autoscale import reasons
from autoscale.journal import Entry
from autoscale.records import Supply
from autoscale.windows import Flow
from ballast import messages
from ballast.messages import tell
from models import wordbook
from models.worded import Worded, packed
from serving.auth import digest
from serving.budgets.settings import Period
from serving.evaluation import store
from serving.evaluation.values import Answer, Arm, Asked, Evaluation
from serving.finance.store import opener
from serving.records import Outcome

STATIC = Path(__file__).parents[2] / "serving/api/console/static"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 860}
TABS = ("fleet", "decisions", "money", "providers", "rollouts", "switches", "playground",
        "votes")  # fmt: skip
pytestmark = pytest.mark.server
expect.set_options(timeout=15_000)


def administrators(pepper: bytes) -> list[dict[str, str]]:
    return [
        {"id": role, "role": role, "hmac": digest(pepper, f"ba-{role}".encode()).hex()}
        for role in ("admin", "operator", "reviewer", "viewer")
    ]


@pytest.fixture(autouse=True)
def _has_browser(tool):
    tool("chromium")


@asynccontextmanager
async def browser(stack, size=DESK, language="en-GB", scheme="light"):
    """A page of the console; an error on it fails the test."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        opened = await started.new_context(
            viewport=size, locale=language, color_scheme=scheme, reduced_motion="reduce"
        )
        page = await opened.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text
                else None)  # fmt: skip
        await page.goto(f"{stack.ops}/console/")
        yield page
        assert faults == []
        await started.close()


async def sign_in(page, role):
    await page.locator("input[name=key]").fill(f"ba-{role}")
    await page.locator("form button").click()
    await expect(page.locator("nav a")).to_have_count(len(TABS))


async def picture(page, name):
    if folder := os.environ.get("CONSOLE_PICTURES"):
        await page.screenshot(path=f"{folder}/{name}.png")


def govern(run, kit, check, **more):
    run(
        check, engines=[kit.engine()], providers={"alpha": kit.provider()},
        administrators=administrators(kit.PEPPER), **more,
    )  # fmt: skip


def test_every_tab_shows_what_the_gateway_knows(run, kit):
    async def check(stack):
        for _ in range(3):
            assert (await stack.chat(stream=True)).status == 200
        async with browser(stack) as page:
            await sign_in(page, "admin")
            await expect(page.locator(".card h3").first).to_contain_text("m")
            await expect(page.get_by_text("engines: 1")).to_be_visible()
            await picture(page, "fleet")
            await page.locator("nav a[href='#decisions']").click()
            await expect(page.locator("tbody tr")).to_have_count(3)
            await expect(page.locator("tbody tr").first).to_contain_text("room and in time")
            await expect(page.get_by_title("local", exact=True).first).to_be_visible()
            await picture(page, "decisions")
            await page.locator("nav a[href='#money']").click()
            await expect(page.get_by_text("Self-hosted, by tokens")).to_be_visible()
            await picture(page, "money")
            await page.locator("nav a[href='#providers']").click()
            await expect(page.get_by_role("cell", name="alpha/big")).to_be_visible()
            await expect(page.get_by_text("Nothing is summed up yet.")).to_be_visible()
            await picture(page, "providers")

    govern(run, kit, check)


def test_money_without_a_rate_is_told_beside_the_budgets(run, kit):
    async def check(stack):
        assert (await stack.chat()).status == 200
        await stack.rows(1)
        async with browser(stack) as page:
            await sign_in(page, "admin")
            await page.locator("nav a[href='#money']").click()
            said = "No sum in one currency: there is no rate from EUR to CNY"
            await expect(page.get_by_text(said)).to_be_visible()
            await expect(page.get_by_role("heading", name="Budgets")).to_be_visible()

    row = kit.row("alpha")
    row["models"][0]["currency"] = "EUR"
    run(check, providers={"alpha": kit.provider()}, rows=[row],
        administrators=administrators(kit.PEPPER))  # fmt: skip


def test_an_operator_stops_a_model_and_lets_it_flow_again(run, kit):
    async def check(stack):
        async with browser(stack) as page:
            page.on("dialog", lambda dialog: dialog.accept())
            await sign_in(page, "operator")
            await page.locator("nav a[href='#switches']").click()
            await page.locator("input[name=value]").fill("m")
            await page.locator("input[name=why]").fill("drill")
            await page.locator("button.danger").click()
            await expect(page.get_by_role("cell", name="drill")).to_be_visible()
            assert (await stack.chat()).json["error"]["code"] == "stopped"
            await picture(page, "switches")
            await page.get_by_role("button", name="Let it flow again").click()
            await expect(page.get_by_text("Nothing is stopped.")).to_be_visible()
            assert (await stack.chat()).status == 200

    govern(run, kit, check)


def test_a_viewer_is_offered_no_switch_and_the_server_would_refuse_it(run, kit):
    async def check(stack):
        async with browser(stack) as page:
            await sign_in(page, "viewer")
            await page.locator("nav a[href='#switches']").click()
            await expect(page.get_by_text("Your role does not show this.")).to_be_visible()
            assert await page.locator("button.danger").count() == 0
        row = {"scope": "all", "value": "", "why": "a drill"}
        head = {"authorization": "Bearer ba-viewer"}
        url = f"{stack.ops}/admin/v1/switches"
        async with stack.session.post(url, json=row, headers=head) as reply:
            assert reply.status == 403
        assert (await stack.chat()).status == 200

    govern(run, kit, check)


MODELS = [
    {"name": "m", "aliases": ["chat"], "profile": "instant"}, {"name": "m2", "profile": "instant"},
]  # fmt: skip


async def roll(stack, role="operator"):
    """A rollout of `chat`, as an operator starts it."""
    head, row = {"authorization": f"Bearer ba-{role}"}, {"name": "chat", "new": "m2"}
    url = f"{stack.ops}/admin/v1/rollouts"
    async with stack.session.post(url, json=row, headers=head) as reply:
        assert reply.status == 201, await reply.text()


def test_an_operator_alone_pauses_a_rollout_goes_on_and_takes_it_back(run, kit):
    async def check(stack):
        await roll(stack)
        async with browser(stack) as page:
            page.on("dialog", lambda dialog: dialog.accept("a look"))
            await sign_in(page, "viewer")
            await page.locator("nav a[href='#rollouts']").click()
            row = page.locator("tbody tr")
            await expect(row).to_contain_text("chat")
            await expect(page.locator("main button")).to_have_count(0)
            await page.locator("#leave").click()
            await sign_in(page, "operator")
            for word in ("chat", "m2", "0%", "running", "started"):
                await expect(row).to_contain_text(word)
            await picture(page, "rollouts")
            for verb, state in (
                ("Pause", "paused by operator: a look"), ("Go on", "resumed by operator: a look"),
                ("Take back", "aborted by operator: a look"),
            ):  # fmt: skip
                await page.get_by_role("button", name=verb).click()
                await expect(row).to_contain_text(state)
            await expect(row.locator("button")).to_have_count(0)
            await picture(page, "rollouts-aborted")

    govern(run, kit, check, models=MODELS)


@pytest.fixture
def controller():
    """The address of one that answers `/decisions` as a controller's journal would: a reason by its
    code, one of an older controller, and one with a code that no catalogue here knows."""
    flow = Flow(0, 3, 1, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    few = reasons.few(flow, Supply(ready=1), 0)
    rows = [
        Entry(1_764_000_000_000, "m", "scale to 2", str(few), 2, packed(few)),
        Entry(1_764_000_000_000, "m2", "hold", "as it was"),
        Entry(1_764_000_000_000, "m3", "hold", "odd <b>1</b>", -1,
              {"code": "of.a_newer_one", "text": "odd <b>1</b>", "values": {}}),
    ]  # fmt: skip
    body = msgspec.json.encode({"decisions": rows})

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_controllers_reasons_are_told_in_the_language_that_the_reader_chose(run, kit, controller):
    async def check(stack):
        async with browser(stack, language="zh-CN") as page:
            await sign_in(page, "admin")
            await page.locator("nav a[href='#decisions']").click()
            rows = page.locator("tbody tr")
            await expect(rows).to_have_count(3)
            await expect(rows.first).to_contain_text(
                "1 个就绪副本不够：排队 3，拒绝 1，转 API 0，运行 0"
            )
            await expect(rows.first).to_contain_text("调到 2 个")
            await expect(rows.nth(1)).to_contain_text("as it was")
            await expect(rows.nth(1)).not_to_contain_text("-1")
            await expect(rows.nth(2)).to_contain_text("odd <b>1</b>")
            await picture(page, "decisions-zh")
            await page.locator("#language").click()
            await expect(rows.first).to_contain_text("1 ready are too few: queue 3, shed 1")
            await expect(rows.first).to_contain_text("scale to 2")

    govern(run, kit, check, **{"controller.url": controller})


def test_the_page_fills_every_sentence_as_the_command_line_does(run, kit):
    said = []
    for code, entry in wordbook.reasons().items():
        names = {name for _, name, _, _ in Formatter().parse(entry["en"]) if name}
        values = {name: f"<{name}>" for name in sorted(names)}
        said.append(Worded.made(code, entry["en"], values))
    said.append(Worded.made("list", "", {"parts": [said[0], "x", 3]}))

    async def check(stack):
        async with browser(stack, language="zh-CN") as page:
            await expect(page.locator("input[name=key]")).to_be_visible()
            told = await page.evaluate(
                "async (all) => {"
                " const { tell } = await import('/console/telling.js');"
                " return all.map((one) => tell(one, one.text)); }",
                json.loads(msgspec.json.encode([packed(one) for one in said])),
            )
        assert told == [tell(one, "zh") for one in said]

    run(check)


def test_a_rollout_and_what_is_refused_are_told_in_chinese(run, kit):
    async def check(stack):
        await roll(stack)
        async with browser(stack, language="zh-CN") as page:
            page.on("dialog", lambda dialog: dialog.accept("看一下"))
            await sign_in(page, "operator")
            await page.locator("nav a[href='#rollouts']").click()
            row = page.locator("tbody tr")
            await expect(row).to_contain_text("已开始")
            await page.get_by_role("button", name="暂停").click()
            await expect(row).to_contain_text("由 operator 暂停：看一下")
            await picture(page, "rollouts-zh")
            # Another administrator was quicker: the page still offers what is refused by now.
            await page.route("**/admin/v1/rollouts", lambda route: route.abort())
            head = {"authorization": "Bearer ba-operator"}
            url = f"{stack.ops}/admin/v1/rollouts/chat/abort"
            async with stack.session.post(url, headers=head) as reply:
                assert reply.status == 200
            await page.get_by_role("button", name="继续").click()
            await expect(page.locator("#notice")).to_have_text(
                "被拒绝: 'chat' 的发布现在是：已退回"
            )

    govern(run, kit, check, models=MODELS)


def test_a_wrong_key_stays_outside_and_leaves_nothing_behind(run, kit):
    async def check(stack):
        async with browser(stack) as page:
            await page.locator("input[name=key]").fill("ba-guess")
            await page.locator("form button").click()
            await expect(page.get_by_role("alert")).to_contain_text("no administrator's key")
            assert await page.evaluate("sessionStorage.length") == 0
            assert await page.locator("nav a").count() == 0

    govern(run, kit, check)


def test_the_playground_asks_two_targets_at_once(run, kit):
    async def check(stack):
        async with browser(stack) as page:
            await sign_in(page, "admin")
            await page.locator("nav a[href='#playground']").click()
            await page.locator("input[name=key]").fill(kit.key_of("canary"))
            await page.locator("select[name=left]").select_option("own")
            await page.locator("select[name=right]").select_option("alpha/big")
            await page.locator("textarea").fill("Which is the capital of France?")
            await page.get_by_role("button", name="Ask both").click()
            await expect(page.locator(".answer .figure")).to_have_count(8)
            costs = await page.locator(".answer .figure:last-child b").all_inner_texts()
            assert costs[0] == "own GPU"
            assert re.search(r"\$\s?0\.\d+", costs[1]), costs
            await picture(page, "playground")
            targets = {row.target for row in await stack.rows(2)}
            assert "alpha/big" in targets
            assert len(targets) == 2
            await page.locator("input[name=key]").fill(kit.key_of("untold"))
            await page.locator("select[name=right]").select_option("")
            await page.locator("select[name=left]").select_option("alpha/big")
            await page.get_by_role("button", name="Ask both").click()
            await expect(page.locator(".answer .figure")).to_have_count(8)
            costs = await page.locator(".answer .figure:last-child b").all_inner_texts()
            assert re.search(r"\$\s?0\.\d+", costs[0]), costs
            assert costs[1] == "unknown"  # its key is not told who answered

    keys = {"canary": {"is_canary": True, "exposure": "full"},
            "untold": {"is_canary": True, "exposure": "none"}}  # fmt: skip
    govern(run, kit, check, keys=[
        {"id": name, "tenant": "acme", "hmac": digest(kit.PEPPER, kit.key_of(name).encode()).hex()}
        | policy for name, policy in (keys | {"main": {}}).items()
    ])  # fmt: skip


async def evaluated(stack, count):
    """An evaluation of so many questions in the ledger's database."""
    answers = tuple(
        Answer(f"q{n}", is_answered=True, text=f"answer {n} of {'ab'[arm]}", arm=arm)
        for n in range(count) for arm in range(2)
    )  # fmt: skip
    asked = tuple(Asked(f"q{n}", f"<b>question</b> {n}") for n in range(count))
    arms = (Arm("own", "m", "own"), Arm("alpha/big", "m", "alpha/big"))
    with closing(opener(stack.settings)()) as database:
        store.add(
            database, Evaluation("e1", "mine.yaml", "d", 1_764_000_000_000, arms, asked, answers)
        )


def read_votes(stack):
    with closing(opener(stack.settings)()) as database:
        return store.votes(database, "e1")


def test_a_reviewer_votes_blind_and_sees_the_result_at_the_end(run, kit):
    async def check(stack):
        await evaluated(stack, 3)
        async with browser(stack) as page:
            await sign_in(page, "reviewer")
            await page.locator("nav a[href='#votes']").click()
            await page.get_by_role("button", name="Vote", exact=True).click()
            for number in range(3):
                await expect(page.get_by_text(f"{number + 1} / 3")).to_be_visible()
                assert "alpha" not in await page.locator("main").inner_text()
                await picture(page, f"votes-{number}")
                left = await page.locator(".answers .answer p").first.inner_text()
                word = "Left is better" if left.endswith("b") else "Right is better"
                await page.get_by_role("button", name=word).click()
            await expect(page.get_by_text("You have voted on every pair")).to_be_visible()
            await expect(page.get_by_role("cell", name="alpha/big")).to_be_visible()
            await expect(page.get_by_text("Too few decided votes to say.")).to_be_visible()
            await picture(page, "votes-result")
        votes = read_votes(stack)
        assert [(one.question, one.voter, one.choice) for one in votes] == [
            (f"q{n}", "reviewer", "1") for n in range(3)
        ]

    govern(run, kit, check)


def test_only_reviewers_vote_and_only_on_pairs_that_there_are(run, kit):
    async def check(stack):
        await evaluated(stack, 1)
        url = f"{stack.ops}/admin/v1/evaluations"
        row = {"question": "q0", "choice": "left"}
        for role, path, said, wanted in (
            ("viewer", "e1/votes", row, 403), ("reviewer", "e1/votes", row, 201),
            ("reviewer", "e1/votes", row | {"question": "q9"}, 404),
            ("reviewer", "e2/votes", row, 404),
            ("reviewer", "e1/votes", row | {"choice": "own"}, 400),
        ):  # fmt: skip
            head = {"authorization": f"Bearer ba-{role}"}
            async with stack.session.post(f"{url}/{path}", json=said, headers=head) as reply:
                assert reply.status == wanted, await reply.text()
        head = {"authorization": "Bearer ba-viewer"}
        async with stack.session.get(f"{url}/e1/pair", headers=head) as reply:
            assert reply.status == 403
        async with stack.session.get(url, headers=head) as reply:
            assert [one["id"] for one in (await reply.json())["evaluations"]] == ["e1"]
        assert len(read_votes(stack)) == 1

    govern(run, kit, check)


def test_a_voter_sees_no_tally_between_the_first_vote_and_the_last(run, kit):
    async def check(stack):
        await evaluated(stack, 2)
        url = f"{stack.ops}/admin/v1/evaluations/e1"

        async def tally(role):
            head = {"authorization": f"Bearer ba-{role}"}
            async with stack.session.get(url, headers=head) as reply:
                return (await reply.json())["votes"]

        async def vote(question):
            head, row = {"authorization": "Bearer ba-reviewer"}, {"choice": "left"}
            row |= {"question": question}
            async with stack.session.post(f"{url}/votes", json=row, headers=head) as reply:
                assert reply.status == 201, await reply.text()

        assert (await tally("reviewer"))["votes"] == 0
        await vote("q0")
        assert await tally("reviewer") is None
        assert (await tally("viewer"))["votes"] == 1
        await vote("q1")
        assert (await tally("reviewer"))["votes"] == 2

    govern(run, kit, check)


@pytest.mark.parametrize(("language", "scheme"), [("en-GB", "dark"), ("zh-CN", "light")])
def test_it_fits_a_phone_in_both_languages_and_both_lights(run, kit, language, scheme):
    async def check(stack):
        await stack.chat(stream=True)
        async with browser(stack, PHONE, language, scheme) as page:
            await sign_in(page, "admin")
            for tab in TABS:
                await page.locator(f"nav a[href='#{tab}']").click()
                await expect(page.locator("main > *").first).to_be_visible()
                width = await page.evaluate("document.documentElement.scrollWidth")
                assert width <= PHONE["width"], tab
                await picture(page, f"phone-{language}-{tab}")
            lang = await page.evaluate("document.documentElement.lang")
            assert lang == ("zh-CN" if language == "zh-CN" else "en")
            shown = await page.evaluate("document.documentElement.dataset.theme")
            assert shown == scheme
            await page.locator("#theme").click()
            assert await page.evaluate("document.documentElement.dataset.theme") != shown

    govern(run, kit, check)


def test_what_tenants_name_enters_the_page_as_text(run, kit):
    async def check(stack):
        await stack.chat(stream=True, model="<img src=x onerror=document.title='hacked'>")
        async with browser(stack) as page:
            await sign_in(page, "admin")
            await page.locator("nav a[href='#decisions']").click()
            await expect(page.locator("tbody tr")).to_contain_text("<img src=x onerror=")
            assert await page.title() == "Ballast"
            assert await page.locator("main img").count() == 0

    govern(run, kit, check)


def test_the_page_may_load_nothing_from_elsewhere(run, kit):
    async def check(stack):
        reply = await stack.get("/console/")
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (await stack.get("/console/../settings.yaml")).status == 404
        assert (await stack.get("/console/none.js")).status == 404
        assert (await stack.get("/admin/v1/console/control", key=None)).status == 401
        text = "".join(p.read_text("utf-8") for p in STATIC.iterdir())
        assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
        assert "innerHTML" not in text

    govern(run, kit, check)


def test_both_languages_have_every_word_that_the_page_uses():
    text = (STATIC / "words.js").read_text("utf-8")
    blocks = re.split(r"\n  (?:en|zh): \{", text)[1:]
    english, chinese = (set(re.findall(r"(?:\"|\b)([a-z_:]+)\"?: \"", block)) for block in blocks)
    assert english == chinese
    code = "".join(
        (STATIC / f"{n}.js").read_text("utf-8")
        for n in ("app", "views", "rollouts", "playground", "votes", "telling")
    )
    used = set(re.findall(r"\bt\(\"([a-z_]+)\"\)", code)) | set(TABS)
    scopes = ("all", "model", "tenant", "project", "provider", "jurisdiction")
    used |= {f"scope_{one}" for one in scopes}
    used |= {f"period_{one}" for one in get_args(Period)}
    states = ("running", "paused", "done", "rolled_back", "aborted")
    used |= {f"state_{one}" for one in states}
    # Whatever `ballast explain` has a sentence for has a word here.
    coded = (key.removeprefix("explain.") for key in messages.entries("explain"))
    used |= {key.replace(".", "_", 1) for key in coded if key.startswith(("outcome.", "reason."))}
    used |= {f"outcome_{one.value}" for one in Outcome}
    assert used == english, json.dumps(sorted(used ^ english))
