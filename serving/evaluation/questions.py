"""Questions of one's own, what makes an answer to them good, and the check of it. Pure.

The questions are the owner's, so their answers are nobody's personal data and are kept as text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import yaml

from models.worded import Worded
from serving.codecs.reading import spoken
from serving.evaluation.schema import breach, unknown
from serving.evaluation.values import TEXT_CHARS_MAX, Answer, Asked
from serving.quality.reading import declines, tokens_of
from serving.unreadable import UNREADABLE

QUESTIONS_MAX = 500
SET_BYTES_MAX = 4 << 20
ID_CHARS_MAX = 200


class SetError(Exception):
    """A set of questions cannot be used: says which question and why."""


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is checked of an answer; what is not said is not checked."""

    json: bool = False
    """The text is JSON as a whole."""
    schema: dict[str, Any] | None = None
    """And this holds of it, or of the tool's arguments where `tool` is said."""
    tool: str = ""
    """This tool is called."""
    contains: tuple[str, ...] = ()
    """One of these stands in the text, in upper or lower case."""
    chars_min: int = 0
    chars_max: int = 0
    """Length of the text; 0 is no bound."""
    refuses: bool = False
    """The model ought to decline; else it ought not to."""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question: a prompt, or whole messages."""

    id: str
    prompt: str = ""
    messages: list[dict[str, Any]] = []
    max_tokens: int = 512
    more: dict[str, Any] = {}
    """Further members of the request: tools, response_format, temperature (0 where unsaid)."""
    expect: Wanted = Wanted()

    def body(self, model: str) -> dict[str, Any]:
        """The request."""
        said = self.messages or [{"role": "user", "content": self.prompt}]
        return {
            "model": model, "messages": said, "temperature": 0, "max_tokens": self.max_tokens,
            **self.more,
        }  # fmt: skip

    def shown(self) -> Asked:
        """As people see it."""
        if not self.messages:
            return Asked(self.id, self.prompt[:TEXT_CHARS_MAX])
        lines = [f"{one.get('role', '')}: {_plain(one.get('content'))}" for one in self.messages]
        return Asked(self.id, "\n".join(lines)[:TEXT_CHARS_MAX])


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else msgspec.json.encode(content).decode()


def parse(data: bytes, *, is_lines: bool) -> tuple[Question, ...]:
    """Questions of a YAML list, or of JSON lines. Raises SetError."""
    if len(data) > SET_BYTES_MAX:
        template = "{count} bytes; at most {most}"
        raise SetError(Worded("set.large", template, count=len(data), most=SET_BYTES_MAX))
    try:
        if is_lines:
            tree: Any = [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]
        else:
            tree = yaml.safe_load(data.decode("utf-8")) or []
        if not isinstance(tree, list):
            template = "it is no list: each question begins with `- id:`"
            raise SetError(Worded("set.no_list", template))
        found = tuple(msgspec.convert(tree, list[Question]))
    except (*UNREADABLE, yaml.YAMLError) as error:
        template, why = "it cannot be read: {why}", str(error)
        raise SetError(Worded("set.unreadable", template, why=why)) from None
    if not 0 < len(found) <= QUESTIONS_MAX:
        template = "{count} questions; between 1 and {most}"
        raise SetError(Worded("set.count", template, count=len(found), most=QUESTIONS_MAX))
    for question in found:
        if why := _fault(question):
            template = "question {name}: {why}"
            raise SetError(Worded("set.question", template, name=repr(question.id), why=why))
    twice = [one.id for one in found if sum(one.id == other.id for other in found) > 1]
    if twice:
        template = "two questions have the id {name}"
        raise SetError(Worded("set.twice", template, name=repr(twice[0])))
    return found


def _fault(question: Question) -> str:
    if len(question.id) > ID_CHARS_MAX or not question.id.isprintable():
        template = "an id is at most {most} characters that can be printed"
        return Worded("set.id", template, most=ID_CHARS_MAX)
    if not question.id or bool(question.prompt) == bool(question.messages):
        return Worded("set.prompt", "give an id, and either prompt or messages")
    reserved = {"model", "messages", "stream", "n", "max_tokens"} & set(question.more)
    if reserved:
        return Worded("set.more", "more: {name} is not set here", name=sorted(reserved)[0])
    return "" if question.expect.schema is None else unknown(question.expect.schema)


def digest(questions: Sequence[Question]) -> str:
    """Names a set by what it asks: results of another one are not compared."""
    return hashlib.sha256(msgspec.json.encode(questions, order="deterministic")).hexdigest()[:16]


def answered(question: Question, answer: bytes) -> Answer:
    """What an answer's body says, and what is wrong with it."""
    choices = spoken(answer)
    if not choices or "error" in choices[0]:
        return Answer(question.id, is_answered=False, why="no answer")
    choice = choices[0]
    text = str(choice["content"])
    is_refused = declines(text)
    said = "\n".join([text, *(f"{c['name']}({c['arguments']})" for c in choice["calls"])]).strip()
    return Answer(
        question.id, is_answered=True, is_refused=is_refused, finish=str(choice["finish"]),
        tokens=tokens_of(answer), text=said[:TEXT_CHARS_MAX],
        faults=faults(question.expect, choice, is_refused=is_refused),
    )  # fmt: skip


def faults(wanted: Wanted, choice: dict[str, Any], *, is_refused: bool) -> dict[str, str]:
    """Check -> what is wrong, empty where nothing is; only checks that were made."""
    made: dict[str, str] = {}
    text = str(choice["content"])
    if wanted.refuses or is_refused:
        made["refusal"] = "" if wanted.refuses == is_refused else (
            "it did not decline" if wanted.refuses else "it declined"
        )  # fmt: skip
    if wanted.tool:
        calls = [one for one in choice["calls"] if one["name"] == wanted.tool]
        made["tool"] = "" if calls else f"it did not call {wanted.tool}"
        text = calls[0]["arguments"] if calls else ""
    if wanted.json or wanted.schema is not None:
        made |= _json_faults(wanted, text)
    if wanted.contains:
        lowered = text.lower()
        is_in = any(word.lower() in lowered for word in wanted.contains)
        made["contains"] = "" if is_in else f"none of {', '.join(wanted.contains)} stands in it"
    if wanted.chars_min or wanted.chars_max:
        most = wanted.chars_max or len(text)
        is_fit = wanted.chars_min <= len(text) <= most
        made["length"] = "" if is_fit else f"{len(text)} characters"
    return made


def _json_faults(wanted: Wanted, text: str) -> dict[str, str]:
    try:
        value = msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return {"json": "not JSON"} | ({"schema": "not JSON"} if wanted.schema is not None else {})
    schema = {} if wanted.schema is None else {"schema": breach(wanted.schema, value)}
    return {"json": ""} | schema
