"""One request in sentences: what was asked, decided, tried and paid. Pure: rows in, text out.

What is not in the catalogue is shown as it stands in the row, so that a reason of a newer gateway
is odd to read and never lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ballast.books import amount, amounts, charges
from ballast.messages import Language, named, words
from serving.ledger.base import Attempt
from serving.records import Usage

Told = list[tuple[str, str]]
"""Heading, sentences."""

WAYS = ("split", "rule")


class Telling:
    """Tells one request in one language."""

    def __init__(self, line: Mapping[str, Any], language: Language) -> None:
        self._line = line
        self._say = words(language)
        self._named = partial(_named, language)

    def all(self, attempts: Sequence[Attempt], *, is_booked: bool) -> Told:
        """The whole story; `attempts` are its tries so far."""
        told = [
            (self._heading("request"), self._ending()),
            (self._heading("asked"), self._asked()),
            (self._heading("placed"), self._placed(attempts)),
        ]
        if waited := self._waited():
            told.append((self._heading("waited"), waited))
        told += self.tries(attempts)
        return [*told, (self._heading("cost"), self._cost(attempts, is_booked=is_booked))]

    def under_way(self, request_id: str, attempts: Sequence[Attempt]) -> Told:
        """A request that has begun and not ended."""
        text = self._say("explain.under_way", request=request_id)
        return [(self._heading("request"), text), *self.tries(attempts)]

    def tries(self, attempts: Sequence[Attempt]) -> Told:
        """Each try."""
        say = self._say
        return [
            (say("explain.heading.try", number=a.attempt), " ".join(self._tried(a, len(attempts))))
            for a in attempts
        ]

    def _heading(self, name: str) -> str:
        return self._say(f"explain.heading.{name}")

    def _ending(self) -> str:
        line, say = self._line, self._say
        how = self._named("outcome", line["outcome"])
        status = say("explain.status", status=line["status"]) if line["status"] else ""
        if line.get("reason") == "replay":
            how = say("explain.replay")
        return say("explain.ending", request=line["request_id"], how=how, status=status)

    def _asked(self) -> str:
        line, say = self._line, self._say
        name = alias = line.get("alias") or line["model"]
        if alias != line["model"]:
            name = say("explain.alias", alias=alias, model=line["model"])
        within = say("explain.project", project=line["project"])
        if line.get("feature"):
            within = say("explain.feature", project=within, feature=line["feature"])
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line["received_ms"] / 1000))
        return say(
            "explain.asked", key=line["key_id"], tenant=line["tenant"], within=within, model=name,
            surface=line["surface"], at=when, level=line["latency_class"],
        )  # fmt: skip

    def _placed(self, attempts: Sequence[Attempt]) -> str:
        line, say = self._line, self._say
        reason, code = line["reason"], line["code"]
        why = self._why(reason)
        known = self._named("code", code) if code else ""
        because = known if known != code else ""
        if reason == "replay":
            return say("explain.sent_nowhere")
        if not line["attempts"]:
            told = because or why or code
            return say("explain.nowhere_because", because=told, marks=_marks(code, reason))
        if line["outcome"] == "refused":
            return say("explain.given_up", why=because or why, marks=_marks(code, reason))
        target = self._target(line["target"], attempts[-1] if attempts else None)
        return say("explain.went_to", target=target, why=why, reason=reason)

    def _why(self, reason: str) -> str:
        """A reason in words; one that begins with a rule or a split's side tells that first."""
        say = self._say
        way, _, rest = reason.partition("/")
        kind, _, name = way.partition(":")
        if kind not in WAYS:
            return self._named("reason", reason)
        told = say(f"explain.way.{kind}")
        if not rest:
            return say("explain.sends_it", way=told, name=repr(name))
        return say("explain.way_and", way=told, name=repr(name), why=self._named("reason", rest))

    def _target(self, target: str, attempt: Attempt | None) -> str:
        if attempt is not None and attempt.intent is not None:
            where = attempt.intent.jurisdiction
            return self._say("explain.an_api", target=target, jurisdiction=where)
        if attempt is not None and attempt.begin is not None and not attempt.begin.is_egress:
            return self._say("explain.an_engine", target=target)
        return target

    def _waited(self) -> str:
        line, say = self._line, self._say
        parts = []
        if line["queue_ms"]:
            parts.append(say("explain.held", span=self._span(line["queue_ms"])))
        elif line["attempts"]:
            parts.append(say("explain.not_held"))
        if line["first_token_ms"] >= 0:
            text = say("explain.first", span=self._span(line["first_token_ms"]))
            if line.get("predicted_ms"):
                predicted = self._span(line["predicted_ms"])
                text = say("explain.predicted", first=text, span=predicted)
            parts.append(say("explain.sentence", text=text))
        if line["attempts"]:
            parts.append(say("explain.over", span=self._span(line["total_ms"])))
        return " ".join(parts)

    def _tried(self, attempt: Attempt, count: int) -> Iterator[str]:
        begin, end, intent, say = attempt.begin, attempt.end, attempt.intent, self._say
        if begin is not None and count > 1:  # of one alone target and reason have been told already
            target, why = self._target(begin.target, attempt), self._why(begin.reason)
            yield say("explain.to_because", target=target, why=why, reason=begin.reason)
        if intent is not None:
            yield say(
                "explain.intent", rule=intent.rule, jurisdiction=intent.jurisdiction,
                provider=intent.provider,
            )  # fmt: skip
        if end is None:
            yield say("explain.not_ended")
            return
        how = say("explain.answered")
        if end.outcome != "ok":
            how = say("explain.ended_as", outcome=end.outcome)
        if end.error:
            error = self._named("error", end.error)
            how = say("explain.because", how=how, error=error, code=end.error)
        if end.first_token_ms >= 0:
            how = say("explain.first_after", how=how, span=self._span(end.first_token_ms))
        yield say("explain.sentence", text=how)
        usage, price = self._usage(end.usage), self._price(attempt)
        yield say("explain.usage_price", usage=usage, price=price)

    def _usage(self, usage: Usage) -> str:
        say = self._say
        if not (usage.prompt_tokens or usage.completion_tokens):
            return say("explain.no_tokens")
        cached, thought = usage.cached_tokens, usage.reasoning_tokens
        text = say(
            "explain.usage", prompt=usage.prompt_tokens, completion=usage.completion_tokens,
            cached=say("explain.cached", count=cached) if cached else "",
            thought=say("explain.thought", count=thought) if thought else "",
        )  # fmt: skip
        return say("explain.estimated", usage=text) if usage.is_estimated else text

    def _price(self, attempt: Attempt) -> str:
        begin, end, say = attempt.begin, attempt.end, self._say
        assert end is not None
        if not end.charge.currency:
            is_bought = begin is None or begin.is_egress
            return say("explain.free") if is_bought else say("explain.by_hour")
        text = amount(end.charge.currency, end.charge.micro)
        if not end.charge.micro or begin is None:
            return text
        return say(
            "explain.price", amount=text,
            input=amount(begin.currency, begin.input_micro_per_mtok),
            output=amount(begin.currency, begin.output_micro_per_mtok),
        )  # fmt: skip

    def _cost(self, attempts: Sequence[Attempt], *, is_booked: bool) -> str:
        line, say = self._line, self._say
        counts = {"prompt": line["prompt_tokens"], "completion": line["completion_tokens"]}
        tokens = say("explain.tokens", **counts)
        if not line["attempts"]:
            return say("explain.nothing")
        if not is_booked:
            return say("explain.money_is", tokens=tokens, when=say("explain.not_booked"))
        charged = charges(attempts)
        if not charged and any(a.begin is not None and a.begin.is_egress for a in attempts):
            return say("explain.no_charge", tokens=tokens)
        text = say("explain.cost", amount=amounts(charged), tokens=tokens)
        return f"{text[0].upper()}{text[1:]}"

    def _span(self, milliseconds: int) -> str:
        if milliseconds < 10_000:
            return self._say("explain.milliseconds", count=milliseconds)
        return self._say("explain.seconds", count=f"{milliseconds / 1000:.1f}")


def sentences(
    line: Mapping[str, Any],
    attempts: Sequence[Attempt],
    *,
    is_booked: bool,
    language: Language = "en",
) -> Told:
    """The story of a request: `line` holds its decision's fields, `attempts` its tries so far."""
    return Telling(line, language).all(attempts, is_booked=is_booked)


def under_way(request_id: str, attempts: Sequence[Attempt], language: Language = "en") -> Told:
    """A request that has begun and not ended."""
    return Telling({}, language).under_way(request_id, attempts)


def _named(language: Language, group: str, name: str) -> str:
    return named(f"explain.{group}", name, language)


def _marks(code: str, reason: str) -> str:
    return ", ".join(dict.fromkeys(filter(None, (code, reason))))
