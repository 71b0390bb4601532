"""Which language this run speaks: `--lang`, else BALLAST_LANG, else the locale's. One run, one
language: it is settled once, before the command begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, get_args

Language = Literal["zh", "en"]
VARIABLE = "BALLAST_LANG"
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The first that is set counts, as in POSIX."""
_spoken: ContextVar[Language] = ContextVar("language", default="en")


class UnknownLanguageError(ValueError):
    """`--lang` or BALLAST_LANG names a language that is not there."""


def chosen(flag: str, environ: Mapping[str, str]) -> Language:
    """The language asked for. Raises UnknownLanguageError naming where it was asked: a locale may
    be any, whoever names ours by hand means one that is there."""
    for source, asked in (("--lang", flag), (VARIABLE, environ.get(VARIABLE, ""))):
        if asked:
            return _known(source, asked)
    locale = next((environ[name] for name in LOCALE if environ.get(name)), "")
    return "zh" if locale.lower().startswith("zh") else "en"


def _known(source: str, asked: str) -> Language:
    # zh-CN, zh_CN.UTF-8 and ZH are all the same wish.
    found = asked.lower().replace("_", "-").partition("-")[0].partition(".")[0]
    for language in get_args(Language):
        if found == language:
            return language  # type: ignore[no-any-return]
    raise UnknownLanguageError(f"{source}: no language {asked!r}: zh or en")


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Within this the run speaks it."""
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


def spoken() -> Language:
    """What this run speaks; for the rims (commands), which hand it down."""
    return _spoken.get()
