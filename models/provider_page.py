"""docs/providers.md as text: what the rows of `models/providers/` say, for people who choose.

`python -m models.provider_page [FILE]` writes it. Pure but for that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from models import provider, sold_words
from models.batch_page import lines as batch_lines
from models.markdown import code, section, table
from models.provider import ErrorRule, Provider

HEAD: Final = """\
# Third-party providers

Written by `python -m models.provider_page` from `models/providers/*.yaml`; a test keeps it in step.
A provider is one such file, packaged or in `providers_dir`;
[0119](decisions/0119-providers.md) says how rows are read.

- **place**: country whose ground the data is processed on; `zz` where the provider binds itself to
  none: then only tenants whose data may go anywhere are admitted, until the account's owner names
  the place its contract gives (`providers[].jurisdiction`).
- **price**: per million tokens of prompt / answer / cached prompt, in the currency the provider
  bills in. `unknown`: nobody has read it at a source, and the model is not offered until the owner
  gives a price (`providers[].models`). A model that says texts aloud is priced, and its context
  counted, in characters of the text; one that writes down what is said by the hour of sound, or by
  the token, of which a tenth of a second is one. Facts were collected on the day shown; a price is
  data with an expiry date, so look before you bill anybody.
- **trust** in a price: high (two sources agree), medium (one machine-readable source), low
  (inferred, rounded or third party).
- All rows are tried against fakes that play them from these same facts; no call to a real provider
  was made.
"""
FACTS: Final = {
    "filing_no": "filing number",
    "trains_on_data": "trains on data",
    "retention_days": "retention, days",
    "certs": "certificates",
    "sla_percent": "promised SLA, %",
    "free_tier": "free tier",
}
MEANINGS: Final = (
    "account_dead", "key_dead", "target_dead", "quota_window", "rate_limit", "overloaded",
    "content_filter", "context_too_long",
)  # fmt: skip
"""Those that people must tell apart; the rest follows the HTTP status."""


def render(rows: Mapping[str, Provider]) -> str:
    """The page."""
    ordered = sorted((r for r in rows.values() if not r.vendor), key=lambda row: row.id)
    parts = [HEAD]
    parts += section("Who they are", _who(ordered))
    parts += section("What their refusals mean", _errors(ordered))
    parts += section("Which go on with an answer begun elsewhere", _prefix(ordered))
    parts += section("What costs less because it may wait", batch_lines(ordered))
    parts += section("What they promise", _facts(ordered))
    for row in ordered:
        parts += section(row.name, _one(row))
    return "\n".join(parts) + "\n"


def _who(rows: Iterable[Provider]) -> Iterator[str]:
    heads = ["row", "place", "whose law", "works on data in", "dialect", "key", "models"]
    yield from table(
        heads,
        (
            [
                code(row.id), row.jurisdiction, row.processing.law if row.processing else "-",
                _listed(row.processing.regions) if row.processing else "-", row.dialect,
                code(row.api_key_env), str(len(row.models)),
            ]
            for row in rows
        ),
    )  # fmt: skip


def _errors(rows: Iterable[Provider]) -> Iterator[str]:
    yield "By status and code, in the order they are tried; what no rule names goes by status.\n"
    heads = ["row", *(meaning.replace("_", " ") for meaning in MEANINGS)]
    yield from table(
        heads,
        (
            [code(row.id), *(_rules(row, meaning) or "-" for meaning in MEANINGS)]
            for row in rows
        ),
    )  # fmt: skip


def _rules(row: Provider, meaning: str) -> str:
    return "; ".join(_rule(rule) for rule in row.error_rules if rule.kind == meaning)


def _rule(rule: ErrorRule) -> str:
    words = [str(rule.http)] if rule.http else []
    if rule.code is not None:
        words += [", ".join(part.replace("\\", "") for part in rule.code.pattern.split("|"))]
    if rule.message is not None:
        said = rule.message.pattern.removeprefix("(?i:").removesuffix(")")
        words += [f"“{' / '.join(said.split('|'))}”"]
    return " ".join(words)


def _prefix(rows: Iterable[Provider]) -> Iterator[str]:
    yield "By a mark on the last message, an assistant's; thinking off ([rescue](rescue.md)).\n"
    yield from table(
        ["row", "mark", "where", "read in", "on"],
        (
            [code(row.id), code(row.prefix.member), code(row.prefix.path or "as all chats"),
             row.prefix.source, row.prefix.as_of]
            for row in rows if row.prefix is not None
        ),
    )  # fmt: skip


def _facts(rows: Iterable[Provider]) -> Iterator[str]:
    yield "`unknown`: not read at a source yet; ask the provider before personal data goes there.\n"
    yield from table(
        ["row", *FACTS.values()],
        ([code(row.id), *(_fact(getattr(row.facts, name)) for name in FACTS)] for row in rows),
    )


def _fact(fact: Any) -> str:
    if isinstance(fact, str):
        return fact
    value = _listed(fact.value) if isinstance(fact.value, tuple) else str(fact.value)
    return f"{value} ({fact.source}, {fact.as_of})"


def _one(row: Provider) -> Iterator[str]:
    yield f"Row {code(row.id)}, {code(row.base_url)}.\n"
    heads = ["model", "context", "answer", "price", "trust", "as of", "same weights"]
    yield from table(heads, (sold_words.model(sold) for sold in row.models))
    special = [line for sold in row.models for line in sold_words.exceptions(sold)]
    if special:
        yield ""
        yield from special
    if row.processing and row.processing.note:
        yield f"\nWhere: {row.processing.note}"
    if seeing := [code(sold.id) for sold in row.models if sold.sees]:
        yield f"\nPictures are sent to {', '.join(seeing)} alone."
    for sold in row.models:
        if sold.audio_formats:
            yield f"\n{code(sold.id)} says texts aloud: {_listed(sold.audio_formats)}."
        if sold.hearing is not None:
            yield f"\n{code(sold.id)} writes down what is said: {sold_words.hearing(sold.hearing)}."
    if row.drop_fields:
        yield f"\nNever sent there: calls with {', '.join(map(code, row.drop_fields))}."
    if row.retired:
        gone = (
            f"{code(r.id)} on {r.on}, successor {code(r.successor) if r.successor else 'unknown'}"
            for r in row.retired
        )
        yield f"\nWithdrawn: {', '.join(gone)}."
    if row.notes:
        yield ""
        yield from (f"- {note}" for note in row.notes)
    if row.unverified:
        yield f"\nNot verified: {'; '.join(row.unverified)}."


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values) or "-"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/providers.md").write_text(
        render(provider.load(provider.FOLDER)), encoding="utf-8"
    )
