"""An S3-compatible object store, path-style: lists a bucket, serves and takes objects, checks
signatures.

Signatures are computed here from the published description, on purpose without the client's code.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from urllib.parse import quote
from xml.sax.saxutils import escape

from aiohttp import web

from serving.fakes.server import Served, serve
from serving.fakes.shelf import Shelf

PAGE = 2
"""Objects in one page of a listing."""
BODY_BYTES_MAX = 64 << 20
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request,\s*"
    r"SignedHeaders=([^,]+),\s*Signature=([0-9a-f]{64})"
)


class FakeObjectStore:
    """One bucket. Change the members while it runs."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.key_id = ""
        """Empty serves anybody."""
        self.secret = ""
        self.shelf = Shelf()

    async def start(self) -> Served:
        """Listen."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/{bucket}/{key:.*}", self._get)
        app.router.add_put("/{bucket}/{key:.*}", self._put)
        return await serve(app, "127.0.0.1", 0)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self.shelf.note(request)
        if self.key_id and (code := self._fault(request)):
            return _error(403, code)
        if request.match_info["bucket"] != self.bucket:
            return _error(404, "NoSuchBucket")
        key = request.match_info["key"]
        if not key:
            return self._list(request)
        if key not in self.shelf.files:
            return _error(404, "NoSuchKey")
        return await self.shelf.send(request, key, self.shelf.trouble(key), {})

    async def _put(self, request: web.Request) -> web.Response:
        self.shelf.note(request)
        if self.key_id and (code := self._fault(request)):
            return _error(403, code)
        if request.match_info["bucket"] != self.bucket:
            return _error(404, "NoSuchBucket")
        body = await request.read()
        if hashlib.sha256(body).hexdigest() != request.headers.get("x-amz-content-sha256"):
            return _error(400, "XAmzContentSHA256Mismatch")
        self.shelf.files[request.match_info["key"]] = body
        return web.Response()

    def _list(self, request: web.Request) -> web.Response:
        prefix = request.query.get("prefix", "")
        keys = sorted(k for k in self.shelf.files if k.startswith(prefix))
        start = int(request.query.get("continuation-token", "0"))
        rows = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{len(self.shelf.files[k])}</Size></Contents>"
            for k in keys[start : start + PAGE]
        )
        is_cut = start + PAGE < len(keys)
        following = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>"
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{following if is_cut else ''}{rows}"
            "</ListBucketResult>"
        )
        return web.Response(text=text, content_type="application/xml")

    def _fault(self, request: web.Request) -> str:
        """The error code of a bad signature; "" for a good one."""
        given = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        if given is None:
            return "AccessDenied"
        identity, day, region, names, signature = given.groups()
        if identity != self.key_id:
            return "InvalidAccessKeyId"
        raw_path, _, raw_query = request.raw_path.partition("?")
        pairs = sorted(p if "=" in p else p + "=" for p in raw_query.split("&") if p)
        lines = "".join(f"{n}:{request.headers[n].strip()}\n" for n in names.split(";"))
        body_hash = request.headers["x-amz-content-sha256"]
        path = quote(request.path, safe="/-_.~") if "%" in raw_path else raw_path
        canonical = f"{request.method}\n{path}\n{'&'.join(pairs)}\n{lines}\n{names}\n{body_hash}"
        scope = f"{day}/{region}/s3/aws4_request"
        text = "\n".join(
            ("AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope,
             hashlib.sha256(canonical.encode()).hexdigest())
        )  # fmt: skip
        key = b"AWS4" + self.secret.encode()
        for part in (day, region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        good = hmac.digest(key, text.encode(), "sha256").hex()
        return "" if hmac.compare_digest(good, signature) else "SignatureDoesNotMatch"


def _error(status: int, code: str) -> web.Response:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")
