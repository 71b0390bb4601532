"""What a provider takes off its price for work that may wait, and how one gets it. Pure.

Two ways are sold: a file of requests that is answered within a window, and a single call whose
answer may take long. The second is an ordinary call, so a provider that sells it has a row more,
`<id>-batch`, made here from its own: the same key and the same rules at that price.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from models.provider import Provider, Sold

SUFFIX = "-batch"
"""Of the row that stands for single calls at that price."""
Day: TypeAlias = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
_T = TypeVar("_T", bound=BaseModel)
_PRICES = ("input_per_mtok", "output_per_mtok", "cached_per_mtok")


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ByCall(Group):
    """How a single call gets the price."""

    models: tuple[str, ...] = Field(min_length=1)
    """Of the row; others are not sold so, or nobody has read it."""
    wait_s: float = Field(gt=0)
    """An answer may take so long, seconds."""
    base_url: str | None = Field(None, pattern=r"^https?://")
    path: str | None = Field(None, pattern=r"^/")
    set_fields: dict[str, Any] = {}
    """Members that every body gets."""
    context_tokens: int | None = Field(None, ge=1)
    """Of prompt and answer together, where it is less than the model's."""
    note: str = ""
    source: str = Field(min_length=1)
    as_of: Day


class BatchPrice(Group):
    """As the provider publishes it; a row of which nobody has read it has none."""

    discount: Decimal = Field(gt=0, lt=1)
    """Share of the ordinary price that is taken off, of every part of it."""
    window_h: int = Field(ge=1)
    """Shortest window of a file, hours: by then it is answered or has expired."""
    models: tuple[str, ...] = ()
    """Of the row, as far as they are known to be sold so; empty: all, by the provider's word."""
    by_call: ByCall | None = None
    source: str = Field(min_length=1)
    as_of: Day

    def odd(self, sold: set[str]) -> str:
        """Models that the row does not sell; empty when there are none."""
        named = {*self.models, *(self.by_call.models if self.by_call else ())}
        return ", ".join(sorted(named - sold))


def derived(row: Provider) -> Provider | None:
    """The row of single calls at the batch price; None where none are sold."""
    batch = row.batch
    if batch is None or (by := batch.by_call) is None:
        return None
    changes: dict[str, Any] = {
        "id": row.id + SUFFIX,
        "name": f"{row.name}, batch price",
        "vendor": row.id,
        "surfaces": ("chat",),
        "base_url": by.base_url or row.base_url,
        "path": by.path or row.path,
        "set_fields": {**row.set_fields, **by.set_fields},
        "first_token_s": by.wait_s,
        "wait_s": by.wait_s,
        "models": tuple(_sold(sold, batch, by) for sold in row.models if sold.id in by.models),
        "retired": (),
        "batch": None,
    }
    return row.model_copy(update=changes)


def _sold(sold: Sold, batch: BatchPrice, by: ByCall) -> Sold:
    context = sold.context_tokens
    if by.context_tokens is not None:
        context = min(context or by.context_tokens, by.context_tokens)
    rules = tuple(_cut(rule, batch.discount) for rule in sold.exceptions)
    changes = {
        "context_tokens": context,
        "exceptions": rules,
        "limits": None,
        "source": f"{sold.source}; {batch.discount:%} off: {batch.source}",
    }
    return _cut(sold, batch.discount).model_copy(update=changes)


def _cut(priced: _T, discount: Decimal) -> _T:
    """At the discount, exact in micro-units: half a unit counts as one."""
    found = {name: getattr(priced, name) for name in _PRICES}
    less = {
        name: (price * (1 - discount)).quantize(Decimal("0.000001"))
        for name, price in found.items() if price is not None
    }  # fmt: skip
    return priced.model_copy(update=less)
