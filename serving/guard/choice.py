"""One choice of an answer: its texts, what of them may leave, and its end. Pure.

Rewrites the choice in place. Text of earlier members that was held back goes ahead of it, as
content for events of its own.
"""

from __future__ import annotations

from typing import Any

from serving.guard import labels
from serving.guard.channels import Channel, Output

DEPTH_MAX = 64
"""Nesting of members that no dialect we know has; deeper is no answer."""
TEXTS_MAX = 256
"""Texts of one choice: its members and its tool calls."""
PLAIN = frozenset({"index", "text", "finish_reason", "stop_reason", "matched_stop"})
_KNOWN = {body: PLAIN | {body} for body in ("delta", "message")}
_TOKENS = frozenset({"logprobs", "token_ids", "prompt_logprobs", "prompt_token_ids"})
"""Show the text a second time, uninspected: refused with inspection, and dropped should they come.
"""
NAMES = frozenset({"role", "id", "type", "name", "object", "model", "tool_call_id"})
"""Members that are no text."""
_CALL = frozenset({"index", "id", "type", "function"})
_FUNCTION = frozenset({"name", "arguments"})
_JSON = frozenset({"tool_calls", "function_call"})
"""Members whose text is JSON: a value put back is written as JSON writes it."""
_SIGNED = frozenset({"content", "text"})

Key = tuple[str, int]
"""Member, and number of the tool call."""


class Blocked(Exception):  # noqa: N818 - a state of the answer
    """A term ended the answer."""


class Unreadable(Exception):  # noqa: N818 - a state of the answer
    """What came is not what an answer consists of."""


class Choice:
    """One choice on its way. Mutable; its methods raise Blocked and Unreadable."""

    __slots__ = ("_channels", "_label", "_output", "_touched", "before", "has_ended", "member")

    def __init__(self, output: Output, label: str) -> None:
        self._output = output
        self._label = label
        self._channels: dict[Key, Channel] = {}
        self._touched: set[Key] = set()
        self.before: list[dict[str, Any]] = []
        """Content to be sent ahead of what was given last, in order; taken by the caller."""
        self.member = ""
        """`content` or `text` once some of it left: where words at the end belong."""
        self.has_ended = False

    def take(self, node: dict[str, Any], body: str = "delta") -> bool:
        """Inspect what came of this choice; `body` is the member that holds its texts. Returns
        whether `node` changed."""
        is_last = bool(node.get("finish_reason"))
        self._touched.clear()
        is_dirty = False
        texts = node.get(body)
        if type(texts) is dict:
            is_dirty = self._texts(texts, is_last)
        elif texts is not None:
            raise Unreadable(f"'{body}' is no object")
        text = node.get("text")
        if text:
            if type(text) is not str:
                raise Unreadable("'text' is no string")
            new = self._feed(("text", 0), text, is_last)
            if new != text:
                node["text"], is_dirty = new, True
        if not node.keys() <= _KNOWN[body]:
            is_dirty = self._others(node, _KNOWN[body]) or is_dirty
        if self._touched or is_last:
            self._flush(is_last)
        if is_last and not self.has_ended:
            self.has_ended = True
            is_dirty = self._sign(node, body) or is_dirty
        return is_dirty

    def more(self, key: Key, text: str) -> str:
        """Inspect more of one text, where nothing else came of this choice; what may leave."""
        self._touched.clear()
        new = self._feed(key, text, False)
        self._flush(False)
        return new

    def held(self, key: Key) -> int:
        """Characters of one text that are held back."""
        channel = self._channels.get(key)
        return channel.held if channel is not None else 0

    def rest(self) -> None:
        """Let go of all that is held back, into `before`."""
        self._touched.clear()
        self._flush(is_last=True)

    def signature(self) -> list[dict[str, Any]]:
        """The words that mark the text as made by AI, as content; nothing without text."""
        label, self._label = self._label, ""
        return [_content((self.member, 0), label)] if label and self.member else []

    def _texts(self, texts: dict[str, Any], is_last: bool) -> bool:
        is_dirty = False
        for name, value in texts.items():
            kind = type(value)
            if kind is str:
                if not value or name in NAMES:
                    continue
                new: Any = self._feed((name, 0), value, is_last)
            elif kind is list and name == "tool_calls":
                for at, call in enumerate(value):
                    is_dirty = self._call(call, at, is_last) or is_dirty
                continue
            elif kind is dict and name == "function_call":
                is_dirty = self._function((name, 0), value, is_last) or is_dirty
                continue
            elif kind is dict or kind is list:
                new = walk(self._output, name, value)
            else:
                continue
            if new != value:
                texts[name], is_dirty = new, True
        return is_dirty

    def _call(self, call: Any, at: int, is_last: bool) -> bool:
        if type(call) is not dict:
            raise Unreadable("a tool call is no object")
        number = call.get("index")
        key = ("tool_calls", number if type(number) is int else at)
        is_dirty = False
        if type(call.get("function")) is dict:
            is_dirty = self._function(key, call["function"], is_last)
        for name in call.keys() - _CALL:
            new = walk(self._output, name, call[name])
            if new != call[name]:
                call[name], is_dirty = new, True
        return is_dirty

    def _function(self, key: Key, function: dict[str, Any], is_last: bool) -> bool:
        is_dirty = False
        given = function.get("arguments")
        if given:
            if type(given) is str:
                new = self._feed(key, given, is_last)
            else:
                new = walk(self._output, key[0], given)
            if new != given:
                function["arguments"], is_dirty = new, True
        for name in function.keys() - _FUNCTION:
            new = walk(self._output, name, function[name])
            if new != function[name]:
                function[name], is_dirty = new, True
        return is_dirty

    def _feed(self, key: Key, text: str, is_last: bool) -> str:
        channel = self._channels.get(key)
        if channel is None:
            if len(self._channels) >= TEXTS_MAX:
                raise Unreadable("a choice has too many texts")
            channel = Channel(self._output, key[0], is_json=key[0] in _JSON)
            self._channels[key] = channel
        self._touched.add(key)
        out = channel.feed(text, is_last)
        if out and key[0] in _SIGNED:
            self.member = key[0]
        if self._output.is_blocked:
            if out:
                self.before.append(_content(key, out))
            raise Blocked
        return out

    def _others(self, node: dict[str, Any], known: frozenset[str]) -> bool:
        """Members beside the texts: what shows tokens goes, what is unknown is read by itself."""
        is_dirty = False
        for name in node.keys() - known:
            value = node[name]
            if value is None:
                continue
            new = None if name in _TOKENS else walk(self._output, name, value)
            if new != value:
                node[name], is_dirty = new, True
        return is_dirty

    def _flush(self, is_last: bool) -> None:
        """Send ahead what other members hold back: reasoning is over once content comes. Tool calls
        may come side by side and wait for the end."""
        for key, channel in self._channels.items():
            if channel.held and key not in self._touched and (is_last or key[0] not in _JSON):
                text = self._feed(key, "", True)
                self._touched.discard(key)
                if text:
                    self.before.append(_content(key, text))

    def _sign(self, node: dict[str, Any], body: str) -> bool:
        """Append the words at the end of the choice's text, where some ends with this."""
        if not labels.may_append(node.get("finish_reason")):
            return False
        holder = node if self.member == "text" else node.get(body)
        if type(holder) is dict and holder.get(self.member) and self._label:
            holder[self.member] += self._label
            self._label = ""
            return True
        self.before += self.signature()
        return False


def _content(key: Key, text: str) -> dict[str, Any]:
    """A choice's members that carry this text."""
    name, number = key
    if name == "text":
        return {"text": text}
    if name == "tool_calls":
        return {"delta": {name: [{"index": number, "function": {"arguments": text}}]}}
    return {"delta": {name: {"arguments": text} if name in _JSON else text}}


def walk(output: Output, where: str, node: Any, depth: int = 0) -> Any:
    """Inspect a value whole, each string by itself. Raises Blocked, Unreadable."""
    if depth > DEPTH_MAX:
        raise Unreadable("members are nested too deep")
    if type(node) is str:
        new = Channel(output, where, is_json=where in _JSON or where == "arguments").feed(
            node, True
        )
        if output.is_blocked:
            raise Blocked
        return new
    if type(node) is list:
        return [walk(output, where, item, depth + 1) for item in node]
    if type(node) is dict:
        return {
            name: value if name in NAMES else walk(output, name, value, depth + 1)
            for name, value in node.items()
        }
    return node
