"""Before a run: is the target there, does it take the key, and can it count tokens."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from benchmarks.load import counting
from benchmarks.load.values import ScenarioError
from benchmarks.load.wire import Connections, Failed, Target, TargetError
from models.worded import Worded, of

PROBE_S = 10.0
WORDS_ASKED = 48
"""Words that are enough: each costs the target two requests."""
REMEDIES = {
    "tls": Worded(
        "remedy.tls", "trust its certificate with --ca-file FILE, or check the host's name"
    ),
    "connect": Worded("remedy.connect", "check host and port, and that it is running"),
    "connect_timeout": Worded("remedy.firewall", "check host and port, and firewalls between"),
    "timeout": Worded(
        "remedy.silent", "the target accepts connections and says nothing: look at its log"
    ),
    "closed": Worded(
        "remedy.closed",
        "something that is no HTTP server, or one that expects TLS, may listen there",
    ),
    "not_http": Worded(
        "remedy.not_http",
        "something that is no HTTP server, or one that speaks TLS, may listen there",
    ),
}
LOOK = Worded("remedy.log", "look at the target's log")


class _Models(msgspec.Struct):
    data: list[dict[str, msgspec.Raw]] = []


class _Tokens(msgspec.Struct):
    count: int


async def probe(target: Target) -> list[str]:
    """Ask for the models; what to warn of. Raises TargetError."""
    connections = Connections(target)
    try:
        status, body = await connections.get("/models", _deadline())
    except Failed as failed:
        template, remedy = "{url}: {why}; {remedy}", REMEDIES.get(failed.kind, LOOK)
        raise TargetError(
            Worded("target.at", template, url=target.url, why=of(failed), remedy=remedy)
        ) from None
    finally:
        connections.close()
    if status in (401, 403):
        template = (
            "{url}: refuses the key ({status}); give one with --key-env NAME or --key-file FILE"
        )
        raise TargetError(Worded("target.key", template, url=target.url, status=status))
    if status != 200:
        template = "GET {base}/models answers {status}: the model's name was not checked"
        return [Worded("target.unchecked", template, base=target.base, status=status)]
    try:
        rows = msgspec.json.decode(body, type=_Models).data
        names = [msgspec.json.decode(row["id"], type=str) for row in rows if "id" in row]
    except msgspec.DecodeError:
        template = "GET {base}/models is not a list of models: is this an OpenAI endpoint?"
        return [Worded("target.no_list", template, base=target.base)]
    if target.model not in names:
        template, name = "model {name} is not in its list: {known}", repr(target.model)
        known = names[:12] or Worded("target.empty", "empty")
        return [Worded("target.no_model", template, name=name, known=known)]
    return []


async def words(target: Target, tokenizer: str) -> counting.Words:
    """By the tokenizer named, else by the target's own /tokenize, else by bytes.
    Raises ScenarioError."""
    if tokenizer == "bytes":
        return counting.words(None, "")
    if tokenizer:
        return counting.words(*counting.named(tokenizer))
    connections = Connections(target)
    try:
        for path in (f"{target.base}/tokenize", f"{target.base.removesuffix('/v1')}/tokenize"):
            known = await _counts(connections, path)
            if known:
                by = Worded("note.by_target", "exact: {path} asked", path=path)
                return counting.words(partial(_known, known), str(by))
    except Failed:
        pass  # it has none: the estimate below says so
    finally:
        connections.close()
    return counting.words(None, "")


def _known(counts: dict[str, int], text: str) -> int:
    """What was asked; what was not is no word of ours."""
    return counts.get(text, -1)


async def _counts(connections: Connections, path: str) -> dict[str, int]:
    """The counts that `counting.words` will ask for; none when the target cannot count."""
    known: dict[str, int] = {}
    good: list[str] = []
    for word in counting.CANDIDATES:
        many = " ".join([word] * counting.REPEATS)
        for text in (word, many):
            count = await _count(connections, path, text)
            if count < 0:
                return {}
            known[text] = count
        if (known[word], known[many]) == (1, counting.REPEATS):
            good.append(word)
        if len(good) == WORDS_ASKED:
            break
    if len(good) < counting.WORDS_MIN:
        template = "{path}: counts no word as one token; name a --tokenizer, or bytes"
        raise ScenarioError(Worded("tokenizer.target", template, path=path))
    sample = " ".join(good[k * 7 % len(good)] for k in range(counting.SAMPLE_WORDS))
    known[sample] = await _count(connections, path, sample)
    return known


async def _count(connections: Connections, path: str, text: str) -> int:
    target = connections.target
    fields = {"model": target.model, "prompt": text, "add_special_tokens": False}
    body = msgspec.json.encode(fields)
    head = target.head("POST", path, "content-type: application/json\r\n")
    data = f"{head}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body
    status, answer = await connections.whole(data, _deadline())
    if status != 200:
        return -1
    try:
        return msgspec.json.decode(answer, type=_Tokens).count
    except msgspec.DecodeError:
        return -1


def _deadline() -> float:
    return asyncio.get_running_loop().time() + PROBE_S
