"""Inspects an answer on its way to the client: restores placeholders, masks terms, ends it at a
blocked one, marks it as made by AI. Pure; never raises for what a target sends.

Every text member of every choice holds back for itself what may still become a term or a
placeholder. An event in which nothing changes passes byte for byte, others are written anew. What
cannot be read does not pass: it ends the answer.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from serving.guard import events, labels
from serving.guard.channels import Output
from serving.guard.choice import Blocked, Choice, Unreadable, walk
from serving.guard.shape import KNOWN, Shape, is_void, learnt
from serving.guard.values import Action, Finding
from serving.guard.whole import is_clear
from serving.records import Block, Usage

CHOICES_MAX = 128
CONTENT_FILTER = "content_filter"


class Asked(NamedTuple):
    """What of the call matters to its answer."""

    usage: Callable[[int], Usage]
    """That of so many events: told when a block ends the stream before the target told its own."""
    wants_usage: bool = False
    mark: dict[str, str] | None = None
    """Metadata that say who made the content, for the first event or the body."""
    is_json: bool = False
    """The caller asked for JSON: no words are appended."""
    is_chat: bool = True


class Inspector:
    """One answer on its way. Mutable, one per answer."""

    shapes_max = 8
    """Shapes that the events of a stream may have; then each is read by itself."""

    def __init__(self, output: Output, asked: Asked) -> None:
        self.output = output
        self._asked = asked
        self._mark = asked.mark
        self._label = "" if asked.is_json else output.policy.ai_text
        self._choices: dict[int, Choice] = {}
        self._last: dict[str, Any] = {}
        self._events = 0
        self._shape: Shape | None = None
        self._learns = 0
        self.is_over = False
        """Nothing more leaves: a term ended the answer, or it broke off."""

    def feed(self, block: Block) -> Block:
        """What of a Block of a stream may leave: the same Block when nothing changed. When a term
        ends the stream, `ends` is set and the finish is `content_filter`; nothing leaves after
        that, and the target should be told to stop."""
        if self.is_over:
            return Block(b"", 0, None, None, block.opens, block.ends)
        self._events += block.events
        raws = block.data.split(b"\n\n")
        if not raws[-1]:
            raws.pop()
        out: list[bytes] = []
        at = 0
        try:
            while at < len(raws):
                at += self._alike(raws, at, out) or self._event(raws[at], out)
        except (Blocked, Unreadable) as error:
            return self._blocked(block, out, error)
        if len(out) == len(raws) and all(map(operator.is_, out, raws)):
            return block
        return Block(
            events.joined(out), block.events, block.usage, block.finish, block.opens, block.ends
        )

    def end(self) -> bytes:
        """What is held back, as events: for a stream that broke off, ahead of its error event."""
        if self.is_over:
            return b""
        self.is_over = True
        out: list[bytes] = []
        with contextlib.suppress(Blocked):
            self._flush(out)
        return events.joined(out)

    @property
    def ended(self) -> frozenset[int]:
        """Choices that have come to their end."""
        return frozenset(i for i, choice in self._choices.items() if choice.has_ended)

    def refuse(self, told: frozenset[int]) -> Block:
        """The last Block of a stream that somebody else ends; the client has the end of `told`."""
        for index, choice in self._choices.items():
            choice.has_ended = index in told
        return self._blocked(Block(b""), [], Blocked())

    def refused(self, block: Block) -> Block:
        """What is sent in place of a plain answer that somebody else refuses."""
        data = events.encode(self.withheld())
        return Block(data, block.events, block.usage, CONTENT_FILTER, block.opens, True)

    def plain(self, block: Block) -> Block:
        """What of a plain answer may leave; the same Block when nothing changed."""
        if not (self._label or self._mark) and is_clear(block.data, self.output):
            return block
        try:
            body = events.body(block.data)
            is_dirty, finish = self._body(body)
        except (Blocked, Unreadable) as error:
            self._count(error)
            body, is_dirty, finish = self.withheld(), True, CONTENT_FILTER
        if not is_dirty:
            return block
        data = events.encode(body)
        return Block(data, block.events, block.usage, finish or block.finish, block.opens, True)

    def withheld(self) -> dict[str, Any]:
        """What says only that a plain answer was withheld."""
        return events.withheld(self._asked.is_chat, CONTENT_FILTER)

    def _alike(self, raws: list[bytes], at: int, out: list[bytes]) -> int:
        """Append what to send for events from `at` on of the shape met last; how many they were."""
        if (shape := self._shape) is None or self._mark is not None:
            return 0
        texts = shape.texts(raws, at)
        try:
            new = shape.inspected(raws[at : at + len(texts)], texts)
        finally:
            self._send(shape.at, shape.choice, out)
        out += new
        return len(texts)

    def _event(self, raw: bytes, out: list[bytes]) -> int:
        """Append what to send in place of one event; returns one."""
        event = events.read(raw)
        if event is None:
            if events.is_done(raw):
                self._flush(out)
            out.append(raw)
            return 1
        if (
            self._learns < self.shapes_max
            and (shape := learnt(raw, event, self._choices)) is not None
        ):
            self._learns, self._shape = self._learns + 1, shape
        self._last = event
        is_dirty = False
        if choices := event.get("choices"):
            if type(choices) is not list:
                raise Unreadable("choices are no array")
            for node in choices:
                choice, index = self._choice(node)
                try:
                    is_dirty = choice.take(node) or is_dirty
                finally:
                    self._send(index, choice, out)
        if not event.keys() <= KNOWN:
            is_dirty = self._others(event) or is_dirty
        if self._mark is not None and choices:
            event[labels.MEMBER], self._mark = self._mark, None
            is_dirty = True
        if not is_dirty:
            out.append(raw)
        elif not is_void(event):
            out.append(events.written(raw, event))
        return 1

    def _choice(self, node: Any) -> tuple[Choice, int]:
        if type(node) is not dict:
            raise Unreadable("a choice is no object")
        at = node.get("index")
        index = at if type(at) is int else 0
        if (choice := self._choices.get(index)) is None:
            if len(self._choices) >= CHOICES_MAX:
                raise Unreadable("an answer has too many choices")
            choice = self._choices[index] = Choice(self.output, self._label)
        return choice, index

    def _send(self, index: int, choice: Choice, out: list[bytes]) -> None:
        """Write what a choice sends ahead."""
        if choice.before:
            ahead, choice.before = choice.before, []
            out += [self._beside(events.choice(index, content)) for content in ahead]

    def _beside(self, *choices: dict[str, Any]) -> bytes:
        mark, self._mark = self._mark, None
        more = {} if mark is None else {labels.MEMBER: mark}
        return events.beside(self._last, choices=choices, **more)

    def _others(self, node: dict[str, Any]) -> bool:
        """Members of an event or body that no dialect we know has: read whole."""
        is_dirty = False
        for name in node.keys() - KNOWN:
            if (new := walk(self.output, name, node[name])) != node[name]:
                node[name], is_dirty = new, True
        return is_dirty

    def _flush(self, out: list[bytes]) -> None:
        for index, choice in self._choices.items():
            try:
                choice.rest()
            finally:
                self._send(index, choice, out)

    def _count(self, error: Blocked | Unreadable) -> None:
        self.output.is_blocked = True
        if isinstance(error, Unreadable):
            self.output.findings[Finding("unreadable", Action.BLOCK, "answer")] += 1

    def _blocked(self, block: Block, out: list[bytes], error: Blocked | Unreadable) -> Block:
        """The last Block of a stream that ends here."""
        self._count(error)
        self.is_over = True
        open_ones = {i: c for i, c in self._choices.items() if not c.has_ended}
        for index, choice in open_ones.items():
            out += [self._beside(events.choice(index, c)) for c in choice.signature()]
        empty: dict[str, Any] = {"delta": {}} if self._asked.is_chat else {"text": ""}
        for index in open_ones or (0,):
            out.append(self._beside(events.choice(index, empty, CONTENT_FILTER)))
        usage = self._asked.usage(self._events)
        if self._asked.wants_usage:
            out.append(events.beside(self._last, choices=[], usage=events.usage(usage)))
        out.append(events.DONE)
        return Block(events.joined(out), block.events, usage, CONTENT_FILTER, opens=True, ends=True)

    def _body(self, body: dict[str, Any]) -> tuple[bool, str | None]:
        """Inspect a plain answer in place. Returns (whether it changed, a new finish reason)."""
        is_dirty, finish = False, None
        choices = body.get("choices")
        for node in choices if type(choices) is list else ():
            choice, _ = self._choice(node)
            self.output.is_blocked = False
            try:
                is_dirty = choice.take(node, "message") or is_dirty
            except Blocked:
                events.cut(node, choice)
                is_dirty, finish = True, CONTENT_FILTER
        self.output.is_blocked = finish is not None
        is_dirty = self._others(body) or is_dirty
        if self._mark is not None:
            body[labels.MEMBER], self._mark = self._mark, None
            is_dirty = True
        return is_dirty, finish
