"""The parser of flags, whose help and refusals speak the reader's language. The library makes its
own refusals of templates that have no codes: they are looked up by those, and a test provokes each
of them, so that a newer Python that words one otherwise is noticed."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from benchmarks.load.wording import spoken, text, word
from benchmarks.telling import help_texts, refused

USAGE = 2


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        """With the head in the language."""
        super().add_usage(usage, actions, groups, prefix or word("usage_head", spoken()))


class Parser(argparse.ArgumentParser):
    """`description` and `help` are English in the code and looked up by that."""

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(prog, description=told(description or ""), add_help=False,
                         formatter_class=_Formatter)  # fmt: skip
        self._positionals.title = word("arguments", spoken())
        self._optionals.title = word("flags", spoken())
        self.add_argument("-h", "--help", action="help", help="show this and end")

    def add_argument(self, *names: Any, **given: Any) -> argparse.Action:
        """As the library's, with the help in the language."""
        if isinstance(given.get("help"), str):
            given["help"] = told(given["help"])
        return super().add_argument(*names, **given)

    def error(self, message: str) -> NoReturn:
        """One line after the usage, then the end."""
        self.print_usage(sys.stderr)
        said = refused(message, spoken())
        words = text("bad_flags", spoken(), prog=self.prog, words=said)
        self.exit(USAGE, f"{words}\n")


def told(english: str) -> str:
    """A help text in the language; one that is not known, as it is."""
    return help_texts().get(english.strip(), english) if spoken() == "zh" else english
