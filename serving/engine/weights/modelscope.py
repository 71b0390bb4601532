"""Repositories of ModelScope, by its HTTP API."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from serving.engine.weights.errors import NotThereError, WeightsError
from serving.engine.weights.remote import Listing, RemoteFile
from serving.engine.weights.requester import Ask, Requester
from serving.engine.weights.sources import checked_path
from serving.unreadable import UNREADABLE

REVISION = "master"


class _File(msgspec.Struct, rename="pascal"):
    path: str
    type: str = "blob"
    size: int = 0
    sha256: str | None = None


class _Data(msgspec.Struct, rename="pascal"):
    files: list[_File] | None = None


class _Answer(msgspec.Struct, rename="pascal"):
    code: int = 200
    message: str | None = None
    data: _Data | None = None


class ModelScope(NamedTuple):
    """One repository."""

    base: str
    repo: str
    token: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.repo} on {urlsplit(self.base).netloc}"

    def __repr__(self) -> str:
        return f"ModelScope({self.name})"

    async def list(self, requester: Requester, revision: str) -> Listing:
        """See `Remote`. There is no way to ask for a branch's commit: hashes pin what is found."""
        revision = revision or REVISION
        query = urlencode({"Revision": revision, "Recursive": "true"})
        url = f"{self.base}/api/v1/models/{quote(self.repo)}/repo/files?{query}"
        body, _ = await requester.read(self._asked(url, "the list of files"))
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except UNREADABLE as error:
            raise WeightsError(f"{self.name} answers in a form we do not know: {error}") from None
        if answer.code != 200 or answer.data is None or answer.data.files is None:
            raise NotThereError(
                f"{self.name}: code {answer.code} ({(answer.message or '')[:200]}); check the name "
                f"and the revision {revision!r}"
            )
        files = [f for f in answer.data.files if f.type == "blob"]
        return Listing(
            revision,
            tuple(
                RemoteFile(checked_path(f.path), f.size, (f.sha256 or "").lower()) for f in files
            ),
        )

    def ask(self, path: str, revision: str) -> Ask:
        """See `Remote`."""
        query = urlencode({"Revision": revision, "FilePath": path})
        return self._asked(f"{self.base}/api/v1/models/{quote(self.repo)}/repo?{query}", path)

    def _asked(self, url: str, what: str) -> Ask:
        secret: dict[str, str] = {}
        if self.token:
            # The API's older routes read the cookie, the newer ones the header.
            secret = {
                "authorization": f"Bearer {self.token}",
                "cookie": f"m_session_id={self.token}",
            }
        return Ask(url, {}, secret, f"{self.repo}: {what}")
