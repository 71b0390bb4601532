"""`/v1/capacity`: what each model would offer this key now, so that a gateway above can steer.

Rendered by key's rights and by prompt length, and kept for a moment: whoever asks a hundred times a
second gets the same answer as the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from models.capacity import Quantiles
from serving.api.calls import Calls
from serving.api.hints import Hints
from serving.api.hints import read as read_hints
from serving.errors import CallerError
from serving.lengths import Lengths
from serving.placement.assign import assign
from serving.records import (
    Burst,
    Call,
    Caller,
    Exposure,
    FleetView,
    Refuse,
    Run,
    Surface,
)
from serving.settings import Model
from serving.spare import Own, Spare, spare

KEPT_S = 0.25
"""An answer is repeated for so long to whoever has the same rights."""
KEPT_MAX = 256
PROMPT_TOKENS = 500
"""Of a prompt that nobody described, until the model's own mean is known."""
PROMPT_TOKENS_MAX = 10_000_000
CAPACITY = b"/v1/capacity"
HEAD = b"cache-control: private, max-age=1\r\n"
_WANTED = frozenset({"prompt_tokens", "model"})


class Capacity:
    """Answers for all keys."""

    def __init__(self, calls: Calls, lengths: Lengths) -> None:
        self._calls, self._lengths = calls, lengths
        self._kept: dict[tuple[object, ...], tuple[float, int, bytes]] = {}

    def answer(self, path: bytes, headers: Mapping[bytes, bytes], caller: Caller) -> bytes:
        """The body. Raises CallerError."""
        calls = self._calls
        prompt_tokens, name = _asked(path.partition(b"?")[2])
        hints = read_hints(headers, caller, calls.classes)
        now_s, view = calls.clock(), calls.view()
        key = (caller.policy, caller.tenant, prompt_tokens, name, hints)
        kept = self._kept.get(key)
        if kept is not None and kept[1] == view.seq and 0.0 <= now_s - kept[0] < KEPT_S:
            return kept[2]
        body = self._render((prompt_tokens, name), caller, hints, (view, now_s))
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[key] = (now_s, view.seq, body)
        return body

    def _render(
        self, asked: tuple[int, str], caller: Caller, hints: Hints, at: tuple[FleetView, float]
    ) -> bytes:
        catalogue, (prompt_tokens, name), (view, now_s) = self._calls.catalogue, asked, at
        rows = []
        for alias in [name] if name else catalogue.names:
            model = catalogue.find(alias)
            if model is None or not catalogue.allows(alias, model, caller):
                continue
            call = self._call(alias, model, caller, (hints, prompt_tokens, now_s))
            call = assign(call, caller, view, {}, now_s)
            found = spare(call, caller, view, now_s)
            rows.append(_row(call, found, caller.policy.exposure))
        if name and not rows:
            raise CallerError("model_not_found", f"model {name[:200]!r} is not served here")
        told = {
            "object": "list",
            "view_age_s": round(max(0.0, now_s - view.observed_s), 3),
            "data": rows,
        }
        return msgspec.json.encode(told)

    def _call(
        self, alias: str, model: Model, caller: Caller, terms: tuple[Hints, int, float]
    ) -> Call:
        """A call as this key would send it."""
        hints, prompt_tokens, now_s = terms
        surface = Surface("chat" if "chat" in model.surfaces else min(model.surfaces))
        prompt_tokens = prompt_tokens or round(self._lengths.usual_prompt(model.name))
        prompt_tokens = min(prompt_tokens or PROMPT_TOKENS, model.context_tokens)
        adapter = alias if alias in self._calls.catalogue.adapters else ""
        is_text = surface in (Surface.CHAT, Surface.COMPLETIONS)
        return Call(
            f"{0:032x}", surface, caller.tenant, model.name, alias, {}, now_s, 0,
            now_s + min(hints.first_token_s, hints.complete_s), now_s + hints.complete_s,
            hints.latency_class, b"", 0, prompt_tokens, None if is_text else 0, is_text, False, 0,
            residency=hints.residency, adapter=adapter, pin=hints.pin,
        )  # fmt: skip


def _asked(query: bytes) -> tuple[int, str]:
    """Prompt tokens (0: not said) and model (empty: all). Raises CallerError."""
    try:
        found = parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=16)
    except ValueError as error:
        raise CallerError("invalid_request", f"the query cannot be read: {error}") from None
    if unknown := sorted(found.keys() - _WANTED):
        message = (
            f"unknown query parameter {unknown[0][:50]!r}; known: {', '.join(sorted(_WANTED))}"
        )
        raise CallerError("invalid_request", message)
    text = found.get("prompt_tokens", ["0"])[-1]
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= PROMPT_TOKENS_MAX):
        message = f"prompt_tokens must be a whole number up to {PROMPT_TOKENS_MAX}"
        raise CallerError("invalid_request", message, param="prompt_tokens")
    return int(text[:9]), found.get("model", [""])[-1]


def _row(call: Call, found: Spare, exposure: Exposure) -> dict[str, Any]:
    """One model, as much of it as the key may see."""
    placement = found.placement
    row: dict[str, Any] = {"id": call.alias, "prompt_tokens": call.prompt_tokens}
    if isinstance(placement, Refuse):
        retry_s = placement.retry_after_s
        row |= {"answer": "no", "code": placement.code}
        if retry_s is not None:
            row["retry_after_s"] = round(retry_s, 1)
    else:
        row["answer"] = "yes" if isinstance(placement, Run | Burst) else "wait"
    expected = found.expected
    row["first_token_s"] = _quantiles(expected.first_token_s) if expected is not None else None
    row["complete_s"] = _quantiles(expected.complete_s) if expected is not None else None
    if exposure is Exposure.NONE:
        return row
    row["from"] = "api" if isinstance(placement, Burst) else "own"
    if isinstance(placement, Refuse):
        row["from"] = None
    row["own"] = _own(found.own)
    row["next_replica_s"] = _quantiles(found.next_s) if found.next_s is not None else None
    row["overflow"] = None
    if found.overflow is not None:
        row["overflow"] = {"first_token_s": _quantiles(found.overflow.first_token_s)}
    return row


def _own(own: Own) -> dict[str, Any]:
    first = own.first_token
    return {
        "replicas": own.replicas,
        "free_slots": own.free_slots,
        "free_tokens_per_s": round(own.free_tokens_per_s),
        "held": own.held,
        "reports_age_s": None if own.reports_age_s is None else round(own.reports_age_s, 3),
        "first_token_s": None if first is None else _quantiles(first.first_token_s),
    }


def _quantiles(found: Quantiles) -> dict[str, float]:
    return {"p50": round(found.p50, 3), "p90": round(found.p90, 3)}
