"""Repositories of Hugging Face, or of a mirror with the same paths."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from serving.engine.weights.errors import WeightsError
from serving.engine.weights.remote import Listing, RemoteFile
from serving.engine.weights.requester import Ask, Requester
from serving.engine.weights.sources import FILES_MAX, checked_path
from serving.unreadable import UNREADABLE

PAGES_MAX = 50
AnswerT = TypeVar("AnswerT")
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


class _Info(msgspec.Struct):
    sha: str


class _Lfs(msgspec.Struct):
    oid: str
    size: int


class _Entry(msgspec.Struct):
    type: str
    path: str
    size: int = 0
    oid: str = ""
    lfs: _Lfs | None = None


class HuggingFace(NamedTuple):
    """One repository."""

    base: str
    repo: str
    token: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.repo} on {urlsplit(self.base).netloc}"

    def __repr__(self) -> str:
        return f"HuggingFace({self.name})"

    async def list(self, requester: Requester, revision: str) -> Listing:
        """See `Remote`: the commit behind the revision, then its tree, page by page."""
        url = f"{self.base}/api/models/{self.repo}/revision/{quote(revision or 'main', safe='')}"
        body, _ = await requester.read(self._asked(url, f"revision {revision or 'main'!r}"))
        commit = _decoded(body, _Info, self.name).sha
        url = f"{self.base}/api/models/{self.repo}/tree/{quote(commit, safe='')}?recursive=true"
        files: list[RemoteFile] = []
        for _ in range(PAGES_MAX):
            body, headers = await requester.read(self._asked(url, "the list of files"))
            files += [_file(e) for e in _decoded(body, list[_Entry], self.name) if e.type == "file"]
            following = _NEXT.search(headers.get("link", ""))
            if following is None or len(files) > FILES_MAX:
                break
            # A mirror may name the hub itself here; only the mirror is asked.
            parts = urlsplit(following.group(1))
            url = f"{self.base}{parts.path.removeprefix(urlsplit(self.base).path)}?{parts.query}"
        return Listing(commit, tuple(files))

    def ask(self, path: str, revision: str) -> Ask:
        """See `Remote`."""
        url = f"{self.base}/{self.repo}/resolve/{quote(revision, safe='')}/{quote(path)}"
        return self._asked(url, path)

    def _asked(self, url: str, what: str) -> Ask:
        secret = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return Ask(url, {}, secret, f"{self.repo}: {what}")


def _file(entry: _Entry) -> RemoteFile:
    path = checked_path(entry.path)
    if entry.lfs is not None:
        return RemoteFile(path, entry.lfs.size, sha256=entry.lfs.oid)
    return RemoteFile(path, entry.size, git_oid=entry.oid)


def _decoded(body: bytes, kind: type[AnswerT], name: str) -> AnswerT:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise WeightsError(f"{name} answers in a form we do not know: {error}") from None
