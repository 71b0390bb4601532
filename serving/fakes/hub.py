"""A model hub: Hugging Face's and ModelScope's paths over the same repositories.

Large files are on another origin, the CDN, to which Hugging Face's paths redirect with a signed
URL; a request that brings a token there is refused, as real ones should be.
"""

from __future__ import annotations

import hashlib
from typing import Any

from aiohttp import web

from serving.fakes.server import Served, serve
from serving.fakes.shelf import Shelf

LARGE_BYTES = 1024
"""From here on a file is kept in large-file storage."""
PAGE = 3
"""Files in one page of a listing."""
SIGNATURE = "signed-for-an-hour"


class FakeHub:
    """One repository and its CDN. Change the members while it runs."""

    def __init__(self, repo: str) -> None:
        self.repo = repo
        self.commit = "0123456789abcdef0123456789abcdef01234567"
        self.token = ""
        """What callers must bring; empty asks for none."""
        self.error: tuple[int, str] | None = None
        """Status and code answered to every listing."""
        self.tells_hashes = True
        self.shelf = Shelf()
        self.cdn = Shelf()
        self.cdn.files = self.shelf.files
        self.cdn_url = ""
        self.extra_paths: list[str] = []
        """Names that stand in listings only."""

    async def start(self) -> tuple[Served, Served]:
        """Hub and CDN, each on a port of its own."""
        cdn = web.Application()
        cdn.router.add_get("/{name:.+}", self._from_cdn)
        served_cdn = await serve(cdn, "127.0.0.1", 0)
        self.cdn_url = served_cdn.url
        return await serve(self._app(), "127.0.0.1", 0), served_cdn

    def _app(self) -> web.Application:
        app = web.Application()
        repo = "/{owner}/{repo}"
        for path, handler in (
            (f"/api/models{repo}/revision/{{revision}}", self._revision),
            (f"/api/models{repo}/tree/{{revision}}", self._tree),
            (f"{repo}/resolve/{{revision}}/{{name:.+}}", self._resolve),
            (f"/api/v1/models{repo}/repo/files", self._files),
            (f"/api/v1/models{repo}/repo", self._file),
        ):
            app.router.add_get(path, handler)
        return app

    def _refusal(self, request: web.Request, *, is_listing: bool) -> web.Response | None:
        self.shelf.note(request)
        given = request.headers.get("authorization", "")
        cookie = request.cookies.get("m_session_id", "")
        if self.token and given != f"Bearer {self.token}" and cookie != self.token:
            return _error(401, "RepoNotFound", "Invalid username or password.")
        if f"{request.match_info['owner']}/{request.match_info['repo']}" != self.repo:
            return _error(404, "RepoNotFound", "Repository not found")
        if is_listing and self.error is not None:
            return _error(*self.error, "")
        if (revision := request.match_info.get("revision")) not in (
            None, "main", self.commit
        ):  # fmt: skip
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    async def _revision(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refusal(request, is_listing=True)) is not None:
            return refused
        return web.json_response({"id": self.repo, "sha": self.commit, "siblings": []})

    async def _tree(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refusal(request, is_listing=True)) is not None:
            return refused
        start = int(request.query.get("cursor", "0"))
        rows: list[dict[str, Any]] = [{"type": "directory", "path": "figures", "size": 0}]
        rows += [self._entry(name, data) for name, data in sorted(self.shelf.files.items())]
        rows += [{"type": "file", "path": p, "size": 1, "oid": "0"} for p in self.extra_paths]
        headers = {}
        if start + PAGE < len(rows):
            # As behind a mirror: the next page is named by the hub's own address.
            target = f"https://hub.example{request.path}?recursive=true&cursor={start + PAGE}"
            headers["link"] = f'<{target}>; rel="next"'
        return web.json_response(rows[start : start + PAGE], headers=headers)

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        row: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": oid}
        if len(data) >= LARGE_BYTES:
            row["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 134}
        return row

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refusal(request, is_listing=False)) is not None:
            return refused
        name = request.match_info["name"]
        if len(self.shelf.files.get(name, b"")) >= LARGE_BYTES:
            target = f"{self.cdn_url}/{name}?X-Amz-Signature={SIGNATURE}"
            return web.Response(status=302, headers={"location": target})
        return await self.shelf.send(request, name, self.shelf.trouble(name), {})

    async def _from_cdn(self, request: web.Request) -> web.StreamResponse:
        self.cdn.note(request)
        if "authorization" in request.headers or "cookie" in request.headers:
            return web.Response(status=400, text="a token came to the CDN")
        if request.query.get("X-Amz-Signature") != SIGNATURE:
            return web.Response(status=403)
        name = request.match_info["name"]
        return await self.cdn.send(request, name, self.cdn.trouble(name), {})

    async def _files(self, request: web.Request) -> web.StreamResponse:
        """ModelScope: all files at once, hashes and all."""
        if (refused := self._refusal(request, is_listing=True)) is not None:
            return refused
        if request.query.get("Revision") not in ("master", self.commit):
            return web.json_response({"Code": 10010205001, "Message": "no such revision"})
        rows: list[dict[str, Any]] = [{"Name": "figures", "Path": "figures", "Type": "tree"}]
        for name, data in sorted(self.shelf.files.items()):
            row = {"Name": name.rpartition("/")[2], "Path": name, "Type": "blob"}
            hashes = {"Sha256": _sha256(data)} if self.tells_hashes else {}
            rows.append(row | {"Size": len(data), "Revision": self.commit} | hashes)
        return web.json_response({"Code": 200, "Data": {"Files": rows}, "Success": True})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refusal(request, is_listing=False)) is not None:
            return refused
        name = request.query.get("FilePath", "")
        return await self.shelf.send(request, name, self.shelf.trouble(name), {})


def _error(status: int, code: str, message: str) -> web.Response:
    headers = {"x-error-code": code, "x-error-message": message}
    return web.json_response({"error": message}, status=status, headers=headers)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
