"""How a provider of the table says no, made from its row: one answer for each error rule. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from models.provider import ErrorRule, Provider
from serving.fakes.refusals import Refusal


def refusals(row: Provider) -> tuple[tuple[ErrorRule, Refusal], ...]:
    """The rules, each with an answer that it is about, in the provider's shape of errors; one for
    every code that a rule names."""
    return tuple((rule, made) for rule in row.error_rules for made in _answers(row, rule))


def _answers(row: Provider, rule: ErrorRule) -> Iterator[Refusal]:
    pattern = rule.message.pattern if rule.message else "(?i:something went wrong)"
    message = sample(pattern.removeprefix("(?i:").removesuffix(")").split("|")[0])
    for part in rule.code.pattern.split("|") if rule.code else [""]:
        code = sample(part)
        status = rule.http or (200 if row.error_shape == "base_resp" else 400)
        payload = _payload(row.error_shape, status, code, message)
        yield Refusal(f"{row.id} {code or status}", f"means {rule.kind}", status, payload)


def sample(pattern: str) -> str:
    """A text that a simple pattern matches: classes give their first letter, `.*` a word."""
    text = re.sub(r"\[(.)[^\]]*\]", r"\1", pattern).replace(".*", "Word")
    return re.sub(r"\\(.)", r"\1", text)


def _payload(shape: str, status: int, code: str, message: str) -> dict[str, Any]:
    if shape == "flat":
        return {"code": code or status, "message": message, "data": None}
    if shape == "base_resp":
        told = {"status_code": int(code or 1000), "status_msg": message}
        return {"choices": None, "base_resp": told}
    if shape == "anthropic":
        return {"type": "error", "error": {"type": code or "api_error", "message": message}}
    if shape == "google":
        return {"error": {"code": status, "message": message, "status": code or "UNKNOWN"}}
    error = {"message": message, "type": "error", "param": None, "code": code or None}
    return {"error": error}
