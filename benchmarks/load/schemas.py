"""Whether an answer is the JSON that was asked for. Pure but for one lazy import.

The check comes after the answer's times were taken. Its CPU is the sender's, and so in the run's
own figures. The package `jsonschema` comes with `make install`, not with the extra `reports`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.load.values import Scenario, ScenarioError
from models.worded import Worded

BROKEN, CUT = "schema", "schema_cut"
"""Kinds of failure: an answer that is not what the schema says; one that `max_tokens` cut off."""
BYTES_MAX = 1 << 20
"""Above, an answer is not read: 200 times what a set of questions takes."""
_WORDS = 160


class Check:
    """The schema of one kind of requests. Raises ScenarioError when it is no schema."""

    def __init__(self, schema: dict[str, Any], where: str) -> None:
        try:
            import jsonschema  # only where a scenario asks for schemas
        except ImportError:
            template = (
                "{where}: answers are to be checked, and the package `jsonschema` is not "
                "installed here: `make install` brings it; or take the schema out of the scenario"
            )
            raise ScenarioError(Worded("scenario.no_jsonschema", template, where=where)) from None
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            template, why = "{where}: no schema: {why}", error.message[:_WORDS]
            raise ScenarioError(
                Worded("scenario.no_schema", template, where=where, why=why)
            ) from None
        self._validator = kind(schema)

    def fault(self, text: str, finish: str) -> tuple[str, str]:
        """(kind, words) of what is wrong with an answer; empty when it keeps the schema."""
        if finish == "length":
            return CUT, "the answer reached max_tokens before its JSON was whole"
        if len(text) > BYTES_MAX:
            return BROKEN, f"an answer of {len(text)} characters is not read"
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            return BROKEN, f"not JSON: {error}; begins {text[:60]!r}"[:_WORDS]
        breach = next(iter(self._validator.iter_errors(value)), None)
        if breach is None:
            return "", ""
        return BROKEN, f"{breach.json_path}: {breach.message}"[:_WORDS]


def checks(scenario: Scenario) -> Sequence[Check | None]:
    """By kind; None where plain words are asked for. Raises ScenarioError."""
    return [
        Check(kind.json_schema, f"kinds.{kind.name}.json_schema")
        if kind.json_schema is not None else None
        for kind in scenario.kinds
    ]  # fmt: skip
