"""docs/clients.md and a page for each client, from `clients.yaml`, the locks and the last results.

One file holds both languages, so that they cannot tell different things.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.clients.environments import ROOT, clients

FACTS, RESULTS = Path(__file__).with_name("clients.yaml"), Path(__file__).with_name("results.json")
DOCS = ROOT / "docs"
CHECKS = ("chat", "stream", "tools", "stream_tools", "embeddings")
HEADS = ("Chat", "Stream", "Tools", "Streamed tools", "Embeddings", "Also")
HELPERS = {"zod"}
"""Packages that are wanted only for another."""
WRITTEN = "Written by `python -m benchmarks.clients pages`; a test keeps it in step."


def rendered() -> dict[Path, str]:
    """The pages by path."""
    facts = yaml.safe_load(FACTS.read_text("utf-8"))
    results = json.loads(RESULTS.read_text("utf-8"))
    made = {DOCS / "clients.md": "\n".join(_overview(facts, results)) + "\n"}
    for name, one in facts["clients"].items():
        text = "\n".join(_page(one, facts, results.get(name)))
        made[DOCS / f"clients/{name}.md"] = text + "\n"
    return made


def take_results(folder: Path) -> None:
    """Keep what a run of tests/gateway/test_clients_full.py wrote for the clients it tried."""
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    known |= {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")


def stale() -> list[str]:
    """Clients whose kept results are of other versions than their lock's."""
    results = json.loads(RESULTS.read_text("utf-8"))
    return [n for n, c in clients().items() if results.get(n, {}).get("versions") != c.versions]


def _overview(facts: Mapping[str, Any], results: Mapping[str, Any]) -> Iterator[str]:
    base, key = facts["values"]["base"], facts["values"]["key"]
    yield f"# Clients 客户端\n\n{WRITTEN}\n"
    yield f"Type a base URL (`{base}`), a key (`{key}`, from `ballast keys create`) and a model"
    yield "name (`ballast models`). A wrong base URL is answered with what to type."
    yield f"\n填写基础地址（`{base}`）、密钥（`{key}`，由 `ballast keys create` 生成）"
    yield "和模型名（见 `ballast models`）。地址写错时，回答会说明应该怎么填。\n"
    yield (
        "## Run unmodified 原样运行\n\n"
        "The real packages against a gateway process with a simulated engine (chat, stream,"
        " embeddings) and a simulated third party (tools: a call, its result, an answer), in"
        " `make test-full` (`tests/gateway/test_clients_full.py`). Each has an environment of its"
        " own, made by `python -m benchmarks.clients make NAME`.\n"
    )
    yield f"| Client | Version | {' | '.join(HEADS)} |\n|{' --- |' * (len(HEADS) + 2)}"
    for name, one in facts["clients"].items():
        if name in results:
            yield _row(name, one, results[name])
    yield (
        "\n## By the shapes of their requests 按请求格式\n\n"
        "These are services of their own; what they send was read in their sources"
        f" ({facts['read_on']})"
        " and stands in `benchmarks/clients/shapes.yaml`, which"
        " `tests/gateway/test_client_shapes.py` sends. They were not run.\n"
    )
    yield "| Client | Read in |\n| --- | --- |"
    for name, one in facts["clients"].items():
        if "from" in one:
            yield f"| [{one['title']}](clients/{name}.md) | {_read(one, facts)} |"


def _read(one: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Each repository once, with its commit and the files in it."""
    paths: dict[str, list[str]] = {}
    for repository, path in one["from"]:
        paths.setdefault(repository, []).append(f"`{path}`")
    commits = facts["commits"]
    return "; ".join(f"{name} at {commits[name]}: {', '.join(of)}" for name, of in paths.items())


def _row(name: str, one: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    versions = ", ".join(
        f"{package} {version}" for package, version in result["versions"].items()
        if package not in HELPERS
    )  # fmt: skip
    marks = ["yes" if check in result["checks"] else "-" for check in CHECKS]
    more = ", ".join(check for check in result["checks"] if check not in CHECKS) or "-"
    return f"| [{one['title']}](clients/{name}.md) | {versions} | {' | '.join([*marks, more])} |"


def _page(one: Mapping[str, Any], facts: Mapping[str, Any], result: Any) -> Iterator[str]:
    yield f"# {one['title']}\n\n{WRITTEN}\n"
    yield "| Setting 设置项 | Type this 填写 |\n| --- | --- |"
    for name, value in one["settings"]:
        shown = facts["values"].get(value, value)
        yield f"| {name} | `{shown}` |"
    for title, language, tried, read in (
        ("English", "en", "Tried with", "Not run: its requests were read in its sources"),
        ("中文", "zh", "已试版本：", "没有运行：按其源码读出的请求格式试验"),
    ):
        yield f"\n## {title}\n"
        if result is not None:
            versions = ", ".join(f"{p} {v}" for p, v in result["versions"].items())
            yield f"{tried} {versions}." if language == "en" else f"{tried}{versions}。"
        else:
            day = facts["read_on"]
            yield f"{read} ({day})." if language == "en" else f"{read}（{day}）。"
        yield from (f"- {note[language]}" for note in one["notes"])
