"""What a caller may say in `x-ballast-*` headers: tighter, never looser. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from serving.errors import CallerError
from serving.forwarded import HEADERS as FORWARDED
from serving.records import Caller, LatencyClass, Residency, ResidencyLevel
from serving.settings import Deadlines

PREFIX = b"x-ballast-"
PIN = b"x-ballast-pin"
PIN_CHARS_MAX = 300
MS_MAX = 86_400_000
SESSION_BYTES_MAX = 256
_LEVELS = {
    b"premises": ResidencyLevel.PREMISES,
    b"mainland": ResidencyLevel.MAINLAND,
    b"anywhere": ResidencyLevel.ANYWHERE,
}


class Hints(msgspec.Struct, frozen=True):
    """A call's terms: the key's, tightened."""

    latency_class: LatencyClass
    first_token_s: float
    complete_s: float
    session: str = ""
    residency: Residency | None = None
    pin: str = ""


def read(
    headers: Mapping[bytes, bytes], caller: Caller, classes: Mapping[LatencyClass, Deadlines]
) -> Hints:
    """The terms of one call. Raises CallerError for a hint that is wrong or not this key's."""
    own = caller.policy.latency_class
    terms = classes[own]
    plain = Hints(own, terms.first_token_s, terms.complete_s)
    for name in headers:
        if name.startswith(PREFIX):
            if not caller.policy.is_forwarder:
                _check_names(headers)
            pin = _pinned(headers, caller)
            return _tightened(msgspec.structs.replace(plain, pin=pin), headers, classes)
    return plain


def _pinned(headers: Mapping[bytes, bytes], caller: Caller) -> str:
    value = headers.get(PIN)
    if value is None:
        return ""
    if not caller.policy.is_canary:
        raise CallerError("header_not_allowed", f"header {PIN.decode()} needs a canary's key")
    return value.decode("latin-1")[:PIN_CHARS_MAX]


def _check_names(headers: Mapping[bytes, bytes]) -> None:
    for name in FORWARDED:
        if name in headers:
            message = f"header {name.decode()} needs a trusted-forwarder key"
            raise CallerError("header_not_allowed", message)


def _tightened(
    hints: Hints, headers: Mapping[bytes, bytes], classes: Mapping[LatencyClass, Deadlines]
) -> Hints:
    latency_class, first_s, complete_s = hints.latency_class, hints.first_token_s, hints.complete_s
    if b"x-ballast-class" in headers:
        asked = _latency_class(headers[b"x-ballast-class"])
        terms = classes[asked]
        if terms.complete_s < complete_s:
            latency_class = asked
        first_s, complete_s = min(first_s, terms.first_token_s), min(complete_s, terms.complete_s)
    if b"x-ballast-ttft-ms" in headers:
        first_s = min(first_s, _milliseconds(headers, b"x-ballast-ttft-ms"))
    if b"x-ballast-timeout-ms" in headers:
        complete_s = min(complete_s, _milliseconds(headers, b"x-ballast-timeout-ms"))
    session = headers.get(b"x-ballast-session", b"")[:SESSION_BYTES_MAX].decode("latin-1")
    residency = None
    if b"x-ballast-residency" in headers:
        residency = _residency(headers[b"x-ballast-residency"])
    return Hints(latency_class, first_s, complete_s, session, residency, hints.pin)


def _latency_class(value: bytes) -> LatencyClass:
    try:
        return LatencyClass(value.decode("latin-1").lower())
    except ValueError:
        known = ", ".join(LatencyClass)
        raise CallerError("invalid_value", f"header x-ballast-class: one of {known}") from None


def _residency(value: bytes) -> Residency:
    """`premises`, `mainland`, `anywhere`, or country codes such as `cn,sg`."""
    level = _LEVELS.get(value.lower())
    if level is not None:
        return Residency(level)
    codes = [code.strip() for code in value.decode("latin-1").lower().split(",")]
    if not all(len(code) == 2 and code.isascii() and code.isalpha() for code in codes):
        message = "header x-ballast-residency: premises, mainland, anywhere or country codes"
        raise CallerError("invalid_value", message)
    return Residency(ResidencyLevel.NAMED, frozenset(codes))


def _milliseconds(headers: Mapping[bytes, bytes], name: bytes) -> float:
    text = headers[name]
    if len(text) > 12 or not text.isdigit() or not 0 < int(text) <= MS_MAX:
        label = name.decode()
        raise CallerError("invalid_value", f"header {label} must be milliseconds, 1 to {MS_MAX}")
    return int(text) / 1e3
