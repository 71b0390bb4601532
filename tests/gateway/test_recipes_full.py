"""Other load generators, as docs/load-recipes.md starts them, against a gateway process.

The commands are the page's own with a smaller load. What a tool counted must be in the ledger.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from benchmarks import recipes

pytestmark = pytest.mark.timeout(420)
TOOL_S_MAX = 360.0
DEBIAN = Path("/usr/share/jmeter")
SMALLER = {
    "k6": {"RATE=2": "RATE=5", "DURATION=60s": "DURATION=3s"},
    "JMeter": {"-Jusers=8": "-Jusers=2", "-Jseconds=60": "-Jseconds=4"},
    "guidellm": {
        "rate=2": "rate=4", "seconds=60": "seconds=5", "=1000,": "=50,", "tokens=200": "tokens=8",
    },
    "vllm bench serve": {
        "len 1000": "len 50", "len 200": "len 8", "prompts 300": "prompts 12", "rate 2": "rate 6",
    },
    "aiperf": {"mean 1000": "mean 50", "mean 200": "mean 8", "rate 2": "rate 4",
               "duration 60": "duration 4"},
}  # fmt: skip
SMALLER["Debian's JMeter"] = SMALLER["JMeter"]


def commands() -> dict[str, str]:
    """The page's."""
    return recipes.commands(recipes.PAGE.read_text("utf-8"))


def is_cpu_wheel() -> bool:
    """Whether the vLLM here is the one that calls itself otherwise."""
    try:
        metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return True
    return False


def command_of(name: str, target: Mapping[str, str]) -> str:
    """The page's command with this target and a smaller load; fails where the page has another."""
    text = commands()[name]
    for old, new in (SMALLER[name] | target).items():
        assert old in text, f"the command of {name} has no {old!r}"
        text = text.replace(old, new)
    return text


def tokenizer(folder: Path) -> Path:
    """A folder as a model's, with a small vocabulary."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([recipes.PAGE.read_text("utf-8")], trainer)
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts), "utf-8")
    return folder


def of_k6(folder: Path) -> int:
    found = json.loads((folder / "k6.json").read_bytes())["metrics"]
    assert found["answered_whole"]["value"] == 1
    return int(found["http_reqs"]["count"])


def of_jmeter(folder: Path) -> int:
    with (folder / "chat.jtl").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    chats = [row for row in rows if row[2] == "chat"]
    assert {row[3] for row in chats} == {"200"}
    assert all("true" in row for row in chats), "an answer without its end"
    return len(chats)


def of_guidellm(folder: Path) -> int:
    (one,) = json.loads((folder / "guidellm.json").read_bytes())["benchmarks"]
    totals = one["metrics"]["request_totals"]
    assert (totals["errored"], totals["total"]) == (0, totals["successful"] + totals["incomplete"])
    return int(totals["successful"])


def of_aiperf(folder: Path) -> int:
    found = json.loads((folder / "aiperf/profile_export_aiperf.json").read_bytes())
    assert found["is_complete"]
    assert not found["error_summary"]
    return int(found["request_count"]["avg"])


def of_vllm(folder: Path) -> int:
    found = json.loads((folder / "vllm-bench.json").read_bytes())
    assert (found["completed"], found["failed"]) == (12, 0)
    return int(found["completed"])


class Trial:
    """Runs one tool of the page against a live gateway."""

    def __init__(self, folder: Path, kit: Any, run_live: Any) -> None:
        self._folder, self._kit, self._run_live = folder, kit, run_live

    def of(self, name: str, tool: Path, counted: Callable[[Path], int]) -> None:
        """To its end without an error, and with as many calls in the ledger as it counted."""

        async def check(live: Any, stack: Any, tree: dict[str, Any]) -> None:
            await live.start(tree)
            await live.ready()
            said = await self._go(name, tool, live.url)
            count = counted(self._folder)
            assert count >= 4, said
            query = "SELECT count(*) FROM requests WHERE surface = 'chat' AND outcome = 'ok'"

            def is_there() -> bool:
                with sqlite3.connect(live.state / "ledger.sqlite") as ledger:
                    return bool(ledger.execute(query).fetchone()[0] >= count)

            await self._kit.eventually(is_there)

        self._run_live(check, engines=[self._kit.engine()], wait_s=TOOL_S_MAX + 40)

    async def _go(self, name: str, tool: Path, url: str) -> str:
        host, port = url.removeprefix("http://").split(":")
        target = {"qwen3-32b": "m"}
        if "JMeter" in name:
            target |= {"-Jhost=gateway": f"-Jhost={host}", "-Jport=8080": f"-Jport={port}"}
        else:
            target["http://gateway:8080"] = url
        if name == "k6":
            target |= {"LOAD_TEST_KEY=... ": "", "k6 run": "k6 run --summary-export=k6.json"}
        if name in ("guidellm", "aiperf", "vllm bench serve"):
            target["FOLDER"] = str(tokenizer(self._folder / "tokenizer"))
        if name in ("k6", "JMeter", "Debian's JMeter"):
            target["benchmarks/recipes/"] = f"{recipes.ROOT}/benchmarks/recipes/"
        environ = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | {
            "LOAD_TEST_KEY": self._kit.key_of("load"),
            "PATH": f"{tool.parent}:{os.environ['PATH']}",
        }  # fmt: skip
        command = command_of(name, target)
        if name == "vllm bench serve" and is_cpu_wheel():
            command = commands()["The CPU wheel"] + command
        process = await asyncio.create_subprocess_exec(
            "timeout", "--kill-after=5", f"{TOOL_S_MAX:.0f}", "bash", "-c", command,
            cwd=self._folder, env=environ,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        said = out.decode("utf-8", "replace")
        assert process.returncode == 0, said[-3000:]
        return said[-3000:]


@pytest.fixture
def trial(tmp_path: Path, kit: Any, run_live: Any) -> Trial:
    folder = tmp_path / "tool"
    folder.mkdir()
    return Trial(folder, kit, run_live)


def tool_of(name: str) -> Path:
    """Its command, or a skip that says how to get it."""
    found = recipes.find(name)
    if found is None:
        pytest.skip(f"no {name} here; `python -m benchmarks.recipes install {name}` brings it")
    return found


def test_the_page_names_only_files_that_are_there() -> None:
    found = commands()
    assert {*SMALLER, "The CPU wheel"} <= set(found)
    for text in found.values():
        for word in text.split():
            if word.startswith("benchmarks/"):
                assert (recipes.ROOT / word).is_file(), word


@pytest.mark.full
def test_k6_runs_as_the_page_starts_it(trial: Trial) -> None:
    trial.of("k6", tool_of("k6"), of_k6)


@pytest.mark.full
def test_guidellm_runs_as_the_page_starts_it(trial: Trial) -> None:
    trial.of("guidellm", tool_of("guidellm"), of_guidellm)


@pytest.mark.full
def test_aiperf_runs_as_the_page_starts_it(trial: Trial) -> None:
    trial.of("aiperf", tool_of("aiperf"), of_aiperf)


@pytest.mark.e2e
@pytest.mark.full
def test_vllm_bench_runs_as_the_page_starts_it(trial: Trial) -> None:
    command = shutil.which("vllm", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if command is None:
        pytest.skip("no vllm here; `make install` brings the extra `cpu`")
    trial.of("vllm bench serve", Path(command), of_vllm)


@pytest.mark.full
def test_jmeter_runs_as_the_page_starts_it(trial: Trial) -> None:
    command = shutil.which("jmeter")
    if command is None:
        pytest.skip("no jmeter here; Debian's packages `jmeter` and `jmeter-http` bring one")
    is_debians = Path(command).resolve().is_relative_to("/usr")
    if not is_debians:
        trial.of("JMeter", Path(command), of_jmeter)
        return
    if not (DEBIAN / "lib/ext/ApacheJMeter_http.jar").exists():
        pytest.skip("Debian's jmeter without HTTP; `apt-get install jmeter-http` brings it")
    if shutil.which("javac") is None:
        pytest.skip("no JDK here, and Debian's jmeter reads no plan without OldJMeter.java")
    trial.of("Debian's JMeter", Path(command), of_jmeter)
