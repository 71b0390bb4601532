"""What tests switch on in a running simulated engine. Pure."""

from __future__ import annotations

import msgspec

from serving.fakes.generation import Rejection


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """Faults in force; `POST /internal/control` sets the named ones and leaves the others."""

    hang: bool = False
    """The engine core stops; the web server still answers."""
    drain: bool = False
    """New requests are refused with 503, running ones end."""
    slow: float = 1.0
    """Every step takes so many times longer."""
    fail_next: int = 0
    """So many next generation requests are answered with `status`."""
    status: int = 500
    kill_stream_after_tokens: int | None = None
    """A stream that has sent so many tokens is cut by a TCP reset."""
    fail_stream_after_tokens: int | None = None
    """The same with vLLM's error event and end mark."""
    times: int = 1
    """How many streams the two above still hit; set again with each of them."""


_CUTS = frozenset(("kill_stream_after_tokens", "fail_stream_after_tokens"))


def changed(faults: Faults, body: bytes) -> Faults | Rejection:
    """The faults after a control request: a JSON object with some of the fields of `Faults`."""
    try:
        given = msgspec.json.decode(body, type=dict[str, object])
        if _CUTS & given.keys():
            given.setdefault("times", 1)
        return msgspec.convert({**msgspec.to_builtins(faults), **given}, type=Faults)
    except msgspec.DecodeError as error:
        return Rejection(400, str(error), "Bad Request", "body")
