"""Screens the input of a call: walks every text of its body, classifies it, writes what each kind
of target may see. Pure.

Texts a model reads are rewritten; names, ids and schemas are only read, since a rewritten one would
break the call. What nobody here can read (pictures, sound, prompts in tokens) is said to be opaque.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from serving.guard.members import (
    ALL,
    CONTENT,
    FIXED,
    MEDIA,
    SPOKEN,
    UNREAD,
    is_id,
    may_be_json,
    mode_of,
    mode_within,
    spoken,
    texts_of,
)
from serving.guard.placeholders import NONCE_LETTERS, Vault, unused
from serving.guard.reading import Reader, Rules
from serving.guard.values import Action, Counts, Finding, Policy, classify
from serving.records import Sensitivity

DEPTH_MAX = 64
"""Nesting of a body's members; deeper is refused unread."""
_TEXTS = (b'"', b"[", b"{")
"""What may hold text starts so."""
_PROMPTS = frozenset({"prompt", "input"})
"""Members in which numbers are tokens."""
_LOGPROBS = frozenset({"logprobs", "top_logprobs", "prompt_logprobs"})
_OWN, _EGRESS = 3, 4
_CUE_MAX = 32
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Verdict(NamedTuple):
    """What the guard says of an input."""

    sensitivity: Sensitivity
    findings: Mapping[Finding, int]
    """How often what was found."""
    is_blocked: bool
    fields: Mapping[str, msgspec.Raw]
    """The body as any target may see it: terms masked. The very one that came when nothing is."""
    egress_fields: Mapping[str, msgspec.Raw]
    """The body as a target outside the premises may see it: personal data masked as well."""
    vault: Vault
    """What the placeholders in `egress_fields` stand for."""
    texts: tuple[str, ...]
    """What a model would read, as sent: for an external moderation service; never logged."""
    answers: list[Mapping[Finding, int]]
    """What is found in each attempt's answer, added to as it comes."""

    def inspects(self, policy: Policy, is_egress: bool) -> bool:
        """Whether an answer must be inspected; else it is relayed untouched."""
        return policy.rewrites or (is_egress and bool(self.vault.values))


class _Place(NamedTuple):
    """A text inside a decoded body, with both of its new forms."""

    holder: Any
    key: Any
    text: str
    own: str
    egress: str


def screen(
    fields: Mapping[str, msgspec.Raw], rules: Rules, letters: Callable[[int], str]
) -> Verdict:
    """Read a body's members. `letters(n)`: the request's nonce, and others for n > 0 should the
    text happen to hold it. Raises TooLong where `rules.closely_max` is set."""
    if not rules.policy.looks:
        return relayed(fields, rules.policy)
    vault = Vault(lambda: unused(fields, letters))
    body = _Body(rules, vault)
    for name, raw in fields.items():
        if name not in UNREAD and bytes(raw).startswith(_TEXTS):
            body.member(name, raw)
    own, egress = body.written(fields)
    findings = body.findings
    is_blocked = any(finding.action is Action.BLOCK for finding in findings)
    sensitivity = classify(rules.policy.label, findings)
    return Verdict(sensitivity, findings, is_blocked, own, egress, vault, tuple(body.texts), [])


def relayed(fields: Mapping[str, msgspec.Raw], policy: Policy) -> Verdict:
    """The verdict on an input that nobody reads."""
    return Verdict(policy.label, {}, False, fields, fields, _EMPTY, (), [])


def wants_logprobs(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether the caller asks for the tokens beside the text: not to be had with inspection."""
    return not _LOGPROBS.isdisjoint(fields) and any(
        name in fields and bytes(fields[name]) not in (b"null", b"false") for name in _LOGPROBS
    )


_EMPTY = Vault("b" * NONCE_LETTERS)


class _Body:
    """Reads one body."""

    def __init__(self, rules: Rules, vault: Vault) -> None:
        self._policy = rules.policy
        self._vault = vault
        self._members: list[tuple[str, dict[str, Any], list[_Place]]] = []
        self._where = ""
        self._is_within = False
        """Inside JSON that stands in a string: names of members say what their values are."""
        self._places: list[_Place] = []
        self._cleared: msgspec.Raw | None = None
        """Messages in which nothing was found."""
        self._is_changed = False
        """Whether some text has another form for any target."""
        self.findings = Counts()
        self._reader = Reader(rules, vault, self.findings)
        self.texts: list[str] = []

    def member(self, name: str, raw: msgspec.Raw) -> None:
        """Read one member."""
        self._where = name
        try:
            said = spoken(raw) if name == SPOKEN else None
            if said is not None and self._reader.holds_nothing(said):
                self.texts += said
                self._cleared = raw
                return
            self._read(name, raw, is_prepared=said is not None)
        except _UNREADABLE:
            self._found(Finding("unreadable", Action.BLOCK, name))

    def _read(self, name: str, raw: msgspec.Raw, is_prepared: bool) -> None:
        holder: dict[str, Any] = {"": _decode(raw)}
        self._places = []
        if not is_prepared:
            self._reader.prepare(texts_of(holder[""]))
        self._walk(holder, "", mode_of(name), 0)
        self._members.append((name, holder, self._places))

    def written(
        self, fields: Mapping[str, msgspec.Raw]
    ) -> tuple[Mapping[str, msgspec.Raw], Mapping[str, msgspec.Raw]]:
        """The body with the new forms of all members: its own, and that for others."""
        if not (self._is_changed or self._vault.values):
            return fields, fields
        if self._vault.values and self._cleared is not None:
            # What was found elsewhere is masked there as well.
            said = _decode(self._cleared)
            places = [_Place(one, "content", *[one["content"]] * 3) for one in said]
            self._members.append((SPOKEN, {"": said}, places))
        own, egress = dict(fields), dict(fields)
        for name, holder, places in self._members:
            if _write(places, _OWN):
                own[name] = msgspec.Raw(_encode(holder[""]))
            if self._vault.values and name in CONTENT:
                places = [p._replace(egress=self._vault.again(p.egress)) for p in places]
            if _write(places, _EGRESS):
                egress[name] = msgspec.Raw(_encode(holder[""]))
        return own, egress

    def _found(self, finding: Finding) -> None:
        self.findings[finding] += 1

    def _walk(self, holder: Any, key: Any, mode: str, depth: int) -> None:
        """Read what `holder[key]` holds. Raises RecursionError when it is nested too deep."""
        node = holder[key]
        if depth > DEPTH_MAX:
            raise RecursionError
        kind = type(node)
        if kind is str:
            self._text(holder, key, mode, depth)
        elif kind is list:
            if node and isinstance(node[0], int) and self._where in _PROMPTS:
                self._opaque()
                return
            for at in range(len(node)):
                self._walk(node, at, mode, depth + 1)
        elif kind is dict:
            for name, value in node.items():
                if self._is_within:
                    self._reader.read(name, self._where, may_rewrite=False)
                if is_media := name in MEDIA and bool(value):
                    self._opaque()
                if self._is_within:  # whatever it is called, it is somebody's data
                    self._walk(node, name, mode, depth + 1)
                elif not (is_media or is_id(name, value)):
                    self._walk(node, name, mode_within(name, mode), depth + 1)

    def _opaque(self) -> None:
        policy = self._policy
        self._found(Finding("opaque", policy.opaque_action, self._where, sensitivity=policy.opaque))

    def _text(self, holder: Any, key: Any, mode: str, depth: int) -> None:
        text = holder[key]
        if key in FIXED and text.startswith("data:"):
            self._opaque()
            return
        forms = self._embedded(text, mode, depth) if may_be_json(key, text) else None
        if forms is None:
            cue = f'"{key[:_CUE_MAX]}":' if self._is_within and isinstance(key, str) else ""
            forms = self._reader.read(text, self._where, mode == ALL, cue)
            if mode == ALL:
                self.texts.append(text)
        if forms[0] is not text:
            self._is_changed = True
        self._places.append(_Place(holder, key, text, *forms))

    def _embedded(self, text: str, mode: str, depth: int) -> tuple[str, str] | None:
        """The forms of JSON inside a string, whose escapes would hide what it says; None if it is
        none."""
        try:
            inner = {"": _decode(text)}
        except _UNREADABLE:
            return None
        if not isinstance(inner[""], dict | list):
            return None
        outer, self._places = self._places, []
        is_within, self._is_within = self._is_within, True
        self._walk(inner, "", mode, depth + 1)
        places, self._places = self._places, outer
        self._is_within = is_within
        forms = [
            _encode(inner[""]).decode() if _write(places, form) else text
            for form in (_OWN, _EGRESS)
        ]
        return forms[0], forms[1]


def _write(places: list[_Place], form: int) -> bool:
    """Write one form of the texts into their places; False when all are as they came."""
    if all(place[form] == place.text for place in places):
        return False
    for place in places:
        place.holder[place.key] = place[form]
    return True
