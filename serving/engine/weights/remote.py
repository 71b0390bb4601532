"""What every remote source offers: a list of files, and for each file the GET that brings it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from serving.engine.weights.requester import Ask, Requester


class RemoteFile(NamedTuple):
    """One file as its source lists it."""

    path: str
    size: int | None
    sha256: str = ""
    """Hex; empty where the source does not tell."""
    git_oid: str = ""
    """Git's SHA-1 of a small file that a hub keeps in the repository itself."""


class Listing(NamedTuple):
    """All files of one revision."""

    revision: str
    """What was found: a commit where the source has commits, else what was asked for."""
    files: tuple[RemoteFile, ...]


class Remote(Protocol):
    """A hub's repository or a store's prefix."""

    @property
    def name(self) -> str:
        """For messages: no credentials, no signatures."""

    async def list(self, requester: Requester, revision: str) -> Listing:
        """The files at `revision` ("" = the default). Raises WeightsError."""

    def ask(self, path: str, revision: str) -> Ask:
        """The GET for one file, made anew for each try, for a signature may grow old."""
