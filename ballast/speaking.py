"""The root of the command line: `--lang`, wherever it stands among the words, chooses the language
before any command begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from ballast import helping, refusing
from ballast.messages import chosen

FLAG = "--lang"
USAGE_CODE = 2
"""Click's, for a flag it does not understand."""


class Speaking(TyperGroup):
    """The root group: settles the language of this run."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        """Run; the language holds for this run only."""
        said = list(sys.argv[1:] if args is None else args)
        try:
            asked, rest = taken(said)
            language = chosen.chosen(asked, os.environ)
        except chosen.UnknownLanguageError as error:
            sys.stderr.write(f"ballast: {error}\n")
            sys.exit(USAGE_CODE)
        with chosen.speaking(language):
            helping.spoken_in(self, language)
            if language == "en" or not named.get("standalone_mode", True):
                return super().main(rest, *more, **named)
            named["standalone_mode"] = False
            try:
                code = super().main(rest, *more, **named)
            except refusing.REFUSAL as error:
                if said_of := refusing.told(error):
                    sys.stderr.write(f"{said_of}\n")
                sys.exit(getattr(error, "exit_code", USAGE_CODE))
            except typer.Abort:
                sys.exit(1)
            sys.exit(code if isinstance(code, int) else 0)


def taken(said: Sequence[str]) -> tuple[str, list[str]]:
    """The language asked for, and the words without it; after `--` all words are the command's.
    Raises UnknownLanguageError where the flag stands last and names none. Pure."""
    asked, rest, words = "", [], iter(said)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word == FLAG:
            asked = next(words, "?")
        elif word.startswith(f"{FLAG}="):
            asked = word.partition("=")[2] or "?"
        else:
            rest.append(word)
    return asked, rest
