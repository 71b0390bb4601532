"""The load generator as its user starts it, against a real gateway among the fakes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
MIX = {
    "title": "Mix", "duration_s": 1.5, "drain_s": 5.0,
    "arrivals": {"kind": "poisson", "rate": 25},
    "kinds": [
        {"name": "ask", "share": 4, "prompt": {"median": 20}, "output": {"median": 6},
         "goal": {"complete_ms": 5000}},
        {"name": "plain", "share": 1, "prompt": {"median": 9}, "output": {"median": 5},
         "stream": False},
        {"name": "talk", "share": 1, "prompt": {"median": 7}, "output": {"median": 4},
         "prefix": {"tokens": 40, "documents": 2},
         "session": {"turns": {"median": 2}, "think_s": 0.05}},
    ],
    "price": {"currency": "CNY", "input_per_mtok": 2, "output_per_mtok": 8},
}  # fmt: skip


class Bench:
    """Starts `benchmarks.load` and reads what it left."""

    def __init__(self, folder: Path, kit) -> None:
        self.out, self._kit, self._file = folder / "out", kit, folder / "scenario.yaml"

    async def start(self, url: str, *more: str, key: str = "load", **changes):
        """The process of a run, under way."""
        self._file.write_text(yaml.safe_dump(MIX | changes))
        environ = dict(os.environ) | {
            "PYTHONPATH": str(ROOT), "LOAD_TEST_KEY": self._kit.key_of(key),
        }  # fmt: skip
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.load", "run", str(self._file), "--url", url,
            "--model", "m", "--out", str(self.out), *more, env=environ,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, url: str, *more: str, **changes) -> tuple[int, str]:
        """Exit code and what it said."""
        process = await self.start(url, *more, **changes)
        out, err = await process.communicate()
        return process.returncode, (out + err).decode()

    def result(self):
        return json.loads((self.out / "result.json").read_bytes())


@pytest.fixture
def bench(tmp_path, kit) -> Bench:
    return Bench(tmp_path, kit)


def test_client_and_ledger_agree_row_by_row_and_prompts_are_exact(run, kit, bench):
    async def check(stack) -> None:
        code, said = await bench.run(stack.url, "--processes", "2")
        assert code == 0, said
        result = bench.result()
        total = result["summary"]["total"]
        assert total["sent"] == total["good"] >= 20
        assert total["api_share"] == 0.0
        assert result["tokens_by"].startswith("exact")
        assert result["summary"]["machine"]["processes"] == 2

        def chats() -> list:
            with stack.ledger() as ledger:
                found = [r for r in ledger.requests(10_000) if r.surface == "chat"]
                return found if len(found) >= total["sent"] else []

        rows = await kit.eventually(chats)
        assert len(rows) == total["sent"]
        for name, field in (("prompt_tokens", "prompt_tokens"), ("completion_tokens",) * 2):
            assert sum(getattr(r.usage, name) for r in rows) == total[field]
        ask, plain, talk = result["summary"]["kinds"]
        # The simulated engine adds four tokens a message, as its chat template.
        assert (ask["prompt_off"], plain["prompt_off"], talk["prompt_off"]) == (4.0, 4.0, 8.0)
        assert ask["gap_ms"]["count"] > 0
        assert result["summary"]["total"]["cost"] > 0
        for page in ("report.html", "report.zh.html"):
            assert "<svg" in (bench.out / page).read_text()

    run(check, engines=[kit.engine(), kit.engine()])


def test_ctrl_c_leaves_a_partial_report_that_says_so(run, kit, bench):
    async def check(stack) -> None:
        process = await bench.start(stack.url, duration_s=60.0)

        async def is_under_way() -> bool:
            return (await stack.load())["r"] > 0

        await kit.eventually(is_under_way)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130, err
        assert b"PARTIAL" in err
        summary = bench.result()["summary"]
        assert summary["is_partial"]
        assert 0 < summary["seconds"] < 60.0
        assert summary["total"]["unfinished"] > 0
        assert summary["machine"]["not_sent"] > 0
        assert "PARTIAL" in (bench.out / "report.html").read_text()

    run(check, engines=[kit.engine(**kit.SLOW, output_tokens=400)])


def test_ctrl_c_before_anything_was_sent_is_one_line(bench):
    async def check() -> None:
        asked = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        process = await bench.start(f"http://127.0.0.1:{port}")
        await asyncio.wait_for(asked.wait(), 60)  # it says nothing: the look at it lasts 10 s
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        server.close()
        await server.wait_closed()
        assert (process.returncode, err.decode()) == (130, "stopped before its results\n")

    asyncio.run(check())


@pytest.mark.full
def test_failures_are_told_by_kind_and_the_run_is_invalid(run, kit, bench):
    async def check(stack) -> None:
        code, said = await bench.run(stack.url, duration_s=1.0, timeout_s=0.2)
        assert code == 1
        assert "INVALID: only" in said
        faults = {f["kind"]: f for f in bench.result()["summary"]["faults"]}
        assert "timeout" in faults
        assert "did not answer in time" in faults["timeout"]["example"]

    run(check, engines=[kit.engine(**kit.SLOW, output_tokens=400)])


@pytest.mark.full
def test_a_key_that_may_overflow_is_named_when_answers_came_from_an_api(run, kit, bench):
    async def check(stack) -> None:
        code, said = await bench.run(
            stack.url, "--tokenizer", "bytes", key="main", duration_s=1.0, arrivals={
                "kind": "closed", "concurrency": 4})  # fmt: skip
        assert "no load-test key" in said
        assert code == 0, said
        assert bench.result()["summary"]["total"]["api_share"] == 1.0
        assert bench.result()["tokens_by"].startswith("estimated")

    models = [{"name": "m", "offerings": ["alpha/big"]}]
    run(check, providers={"alpha": kit.provider(output_tokens=4)}, models=models)


def test_our_ledger_is_replayed_as_it_was(run, kit, bench, tmp_path):
    async def check(stack) -> None:
        for _ in range(25):
            assert (await stack.chat()).status == 200
        asked = await stack.rows(25)
        settings = tmp_path / "settings.yaml"
        settings.write_text(yaml.safe_dump(stack.tree))
        code, said = await bench.run(stack.url, "--ledger", str(settings), kinds=MIX["kinds"][:1])
        assert code == 0, said
        total = bench.result()["summary"]["total"]
        assert total["sent"] == 25
        assert total["prompt_tokens"] == sum(r.usage.prompt_tokens + 4 for r in asked)

    run(check, engines=[kit.engine()])


def test_a_target_that_cannot_be_tested_ends_in_one_line_and_code_three(run, kit, bench):
    async def check(stack) -> None:
        tls = stack.url.replace("http:", "https:")
        for url, key, words in (
            (stack.url, "nobody", "refuses the key (401)"),
            ("http://127.0.0.1:9", "load", "cannot connect"),
            (tls, "load", "TLS"),
            ("ftp://x", "load", "--url"),
        ):
            code, said = await bench.run(url, key=key)
            assert (code, said.count("\n")) == (3, 1), said
            assert said.startswith("error: ")
            assert words in said

    run(check, engines=[kit.engine()])


@pytest.mark.full
def test_results_that_cannot_be_written_and_bad_scenarios_have_codes_of_their_own(
    run, kit, bench, tmp_path
):
    async def check(stack) -> None:
        (tmp_path / "file").write_text("")
        code, said = await bench.run(stack.url, "--out", str(tmp_path / "file"))
        assert code == 4
        assert "--out" in said
        code, said = await bench.run(stack.url, duration_s=-1)
        assert code == 2
        assert "duration_s" in said
        code, said = await bench.run(stack.url, "--tokenizer", str(tmp_path / "none"))
        assert code == 2
        assert "tokenizer.json" in said

    run(check, engines=[kit.engine()])


@pytest.mark.full
def test_the_search_finds_what_an_engine_bears(run, kit, bench):
    async def check(stack) -> None:
        small = [MIX["kinds"][0] | {"goal": {"complete_ms": 1000}, "output": {"median": 8}}]
        bench._file.write_text(
            yaml.safe_dump(MIX | {"kinds": small, "drain_s": 3.0, "duration_s": 4.0})
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.load", "capacity", str(bench._file), "--url",
            stack.url, "--model", "m", "--out", str(bench.out), "--repeats", "1", "--rate", "10",
            "--tolerance", "0.3", env=dict(os.environ) | {
                "PYTHONPATH": str(ROOT), "LOAD_TEST_KEY": kit.key_of("load")},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err
        assert b"m holds" in out
        assert b"is too much" in out
        assert "<svg" in (bench.out / "capacity.html").read_text()

    run(check, engines=[kit.engine(**kit.SLOW, max_num_seqs=4)])


@pytest.mark.full
def test_answers_that_break_their_schema_are_failures_and_no_goodput(run, kit, bench):
    kind = MIX["kinds"][1] | {"json_schema": {"type": "object"}}

    async def check(stack) -> None:
        code, said = await bench.run(stack.url, "--tokenizer", "bytes", kinds=[kind])
        assert code == 1, said
        summary = bench.result()["summary"]
        assert (summary["total"]["good"], summary["total"]["goodput"]) == (0, 0.0)
        assert {f["kind"] for f in summary["faults"]} <= {"schema", "schema_cut"}

    run(check, engines=[kit.engine()])
