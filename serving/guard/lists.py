"""Holds the term lists of a folder, and takes up changed files while requests run.

The matcher is a value: a new one is built in a thread and put in place of the old one; answers
under way keep the one they began with. A faulty file changes nothing and is said.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import opencc

from models.worded import Worded, of
from serving.guard import termfile
from serving.guard.folding import Folding
from serving.guard.terms import Terms
from serving.guard.values import Term

FILE_BYTES_MAX = 16 << 20
FILES_MAX = 256
_HAN = (range(0x3400, 0xA000), range(0xF900, 0xFB00), range(0x20000, 0x2A6E0))
_AT_ONCE = 2000
"""Characters converted by one call: a call holds the interpreter for its whole length."""
_log = logging.getLogger(__name__)

Stamp = tuple[tuple[str, int, int], ...]
"""Name, time of change (ns) and size of each file."""


def simplified() -> dict[int, str]:
    """Traditional characters and the simplified ones they are folded to, one for one, from OpenCC's
    tables. Takes about 0.1 s."""
    converter = opencc.OpenCC("t2s")
    table: dict[int, str] = {}
    for chars in _HAN:
        for low in range(chars.start, chars.stop, _AT_ONCE):
            some = [chr(code) for code in range(low, min(low + _AT_ONCE, chars.stop))]
            simple = converter.convert("\n".join(some)).split("\n")
            table |= {ord(a): b for a, b in zip(some, simple, strict=True) if a != b}
    return table


class Lists:
    """The lists known now. Constructing reads nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._stamp: Stamp = ()
        self._folding: Folding | None = None
        self.terms: Terms | None = None
        """All lists in one matcher; None without a term."""
        self.names: frozenset[str] = frozenset()

    @property
    def folding(self) -> Folding:
        """How texts are folded; `load` comes first."""
        assert self._folding is not None, "load() was not called"
        return self._folding

    @property
    def stamp(self) -> Stamp:
        """Of what is held now."""
        return self._stamp

    def load(self) -> None:
        """Read everything, at the start. Raises ListFault: a gateway must not start without the
        lists it is told to apply."""
        self._folding = self._folding or Folding(simplified())
        self._take(*_built(self._folder, self.folding))

    async def refresh(self) -> bool:
        """Take up changed files; whether there were any. Never raises for a faulty file."""
        if await asyncio.to_thread(_stamped, self._folder) == self._stamp:
            return False
        try:
            built = await asyncio.to_thread(_built, self._folder, self.folding)
        except termfile.ListFault as fault:
            _log.error("term_lists_unreadable", extra={"reason": str(fault)})
            return False
        self._take(*built)
        size = self.terms.size if self.terms is not None else 0
        _log.info("term_lists_changed", extra={"lists": sorted(self.names), "terms": size})
        return True

    async def watch(self, check_s: float) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(check_s)
            await self.refresh()

    def _take(self, stamp: Stamp, names: frozenset[str], terms: Terms | None) -> None:
        self._stamp, self.names, self.terms = stamp, names, terms


def _stamped(folder: Path | None) -> Stamp:
    if folder is None:
        return ()
    try:
        found = [(path.name, path.stat()) for path in sorted(folder.glob("*.txt"))]
    except OSError:
        return ()
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def _built(folder: Path | None, folding: Folding) -> tuple[Stamp, frozenset[str], Terms | None]:
    """What the folder holds. The stamp is taken first: a file that changes meanwhile is read again.
    Raises ListFault."""
    if folder is None:
        return (), frozenset(), None
    if not folder.is_dir():
        template = "the folder of term lists, {folder}, does not exist"
        raise termfile.ListFault(Worded("terms.no_folder", template, folder=folder))
    stamp = _stamped(folder)
    if len(stamp) > FILES_MAX:
        template = "{folder} holds more than {most} term lists"
        raise termfile.ListFault(Worded("terms.lists", template, folder=folder, most=FILES_MAX))
    terms: list[Term] = []
    for name, _, size in stamp:
        if size > FILE_BYTES_MAX:
            template, most = "{list}: larger than {most} MiB", FILE_BYTES_MAX >> 20
            raise termfile.ListFault(Worded("terms.large", template, list=name, most=most))
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            template, why = "{list}: cannot be read ({why})", type(error).__name__
            raise termfile.ListFault(
                Worded("terms.unreadable", template, list=name, why=why)
            ) from None
        terms += termfile.read(name.removesuffix(".txt"), text)
    names = frozenset(name.removesuffix(".txt") for name, _, _ in stamp)
    try:
        return stamp, names, Terms(terms, folding) if terms else None
    except ValueError as error:
        raise termfile.ListFault(of(error)) from None
