"""What a replica is asked before it is called ready, and what the answer must be. Values only."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

EXPECTATION = re.compile(
    r"non_empty|json|ordered|dimension(:[1-9]\d{0,5})?|(contains|matches|equals):.+", re.DOTALL
)


class Probe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One question with a fixed answer."""

    prompt: str = "Say hello."
    kind: Literal["auto", "chat", "completion", "embedding", "rerank"] = "auto"
    """auto: chat for a model that generates, else embedding, else rerank."""
    expect: str = "non_empty"
    """`non_empty`: some text; a vector or scores that are finite and not all zero.
    `contains:TEXT`, `matches:REGULAR EXPRESSION`, `equals:TEXT` (golden text, stripped), `json`.
    `dimension:N`: a vector of so many numbers; without N any number.
    `ordered`: the scores of `documents` fall from first to last."""
    documents: tuple[str, ...] = ()
    """For rerank, best first."""
    max_tokens: Annotated[int, Meta(ge=1, le=4096)] = 32
    template: dict[str, bool | int | str] = {}
    """`chat_template_kwargs`, such as thinking turned off."""
    deadline_s: Annotated[float, Meta(gt=0)] = 120.0
    """The first answer of a fresh engine compiles and warms up what nothing else did."""

    def __post_init__(self) -> None:
        if not EXPECTATION.fullmatch(self.expect):
            raise ValueError(f"probe.expect {self.expect!r} is none of the known expectations")
        if self.expect.startswith("matches:"):
            try:
                re.compile(self.expect.removeprefix("matches:"))
            except re.error as error:
                raise ValueError(f"probe.expect {self.expect!r}: {error}") from None
        if self.expect == "ordered" and len(self.documents) < 2:
            raise ValueError("probe.expect ordered needs two documents, best first")
