"""Builders of the values that flow: everything has a harmless default, a test names what matters.

Session-wide, because hypothesis runs one test many times with the same fixtures.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from models.capacity import PROFILES, Load
from serving.admission import Admission
from serving.codecs import openai
from serving.guard.folding import Folding
from serving.guard.lists import simplified
from serving.records import (
    Call,
    Caller,
    DataLabel,
    FleetView,
    LatencyClass,
    Offering,
    Overflow,
    Policy,
    Price,
    Replica,
    Residency,
    ResidencyLevel,
    Surface,
    Target,
    Ticket,
)


class Make:
    """Makes calls, callers, targets and views."""

    model = "m"
    premises = DataLabel("cn", "self", on_premises=True)
    price = Price("USD", 2_000_000, 10_000_000, 100_000, "a test", "2026-11-21")

    def call(self, number: int = 1, **changes: Any) -> Call:
        """A chat that came at 0 and has 60 s to its first token."""
        values: dict[str, Any] = {
            "request_id": f"{number:032x}", "surface": Surface.CHAT, "tenant": "acme",
            "model": self.model, "alias": self.model, "fields": {}, "received_s": 0.0,
            "received_ms": 0, "first_token_by_s": 60.0, "complete_by_s": 600.0,
            "latency_class": LatencyClass.PATIENT, "prompt": b"[]", "size": 100,
            "prompt_tokens": 10, "max_tokens": 16, "stream": True, "wants_usage": False,
            "affinity": 0,
        }  # fmt: skip
        return Call(**values | changes)

    def chat(self, **body: Any) -> Call:
        """A chat parsed from its body."""
        said = {"model": self.model, "messages": [{"role": "user", "content": "hi"}], **body}
        parsed = openai.parse(Surface.CHAT, msgspec.json.encode(said))
        return self.call(
            fields=parsed.fields, max_tokens=parsed.max_tokens, stream=parsed.stream,
            wants_usage=parsed.wants_usage, n=parsed.n, prompt=parsed.prompt,
        )  # fmt: skip

    def caller(self, residency: Residency | None = None, **policy: Any) -> Caller:
        """A caller who may overflow anywhere."""
        values: dict[str, Any] = {
            "residency": residency or Residency(ResidencyLevel.ANYWHERE),
            "overflow": Overflow.ALLOWED,
        }
        return Caller("key", "acme", "default", Policy(**values | policy))

    def replica(self, name: str = "r1", **changes: Any) -> Replica:
        """An engine on the premises that takes no time."""
        values: dict[str, Any] = {
            "id": name, "model": self.model, "host": "127.0.0.1", "port": 9000, "prefix": "",
            "label": self.premises, "profile": PROFILES["instant"], "limit": 8,
            "seed": zlib.crc32(name.encode()),
        }  # fmt: skip
        return Replica(**values | changes)

    def offering(self, name: str = "api/big", **changes: Any) -> Offering:
        """An API abroad."""
        values: dict[str, Any] = {
            "id": name, "provider": "api", "model": self.model, "upstream_model": "big",
            "label": DataLabel("us", "Api Inc"), "price": self.price,
            "surfaces": frozenset({Surface.CHAT}), "context_tokens": 8192, "first_token_s": 1.0,
        }  # fmt: skip
        return Offering(**values | changes)

    def ticket(self, target: Target) -> Ticket:
        """Leave for one attempt on a target."""
        return Ticket("r", 1, target, "test", 0.0, 10, 16, 0.0, is_egress=True)

    def view(
        self, replicas: Iterable[Replica] = (), offerings: Iterable[Offering] = (), **changes: Any
    ) -> FleetView:
        """A view of the one model."""
        values: dict[str, Any] = {
            "replicas": {self.model: tuple(replicas)},
            "offerings": {self.model: tuple(offerings)},
        }
        return FleetView(**values | changes)


@pytest.fixture(scope="session")
def folding() -> Folding:
    """How texts are folded, with OpenCC's tables."""
    return Folding(simplified())


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture(scope="session")
def reporting() -> Callable[..., Admission]:
    """An Admission whose targets have just reported a load, by target id."""

    def build(at_s: float = 0.0, **loads: Load) -> Admission:
        admission = Admission()
        for target_id, load in loads.items():
            admission.reported(target_id, load, at_s)
        return admission

    return build
