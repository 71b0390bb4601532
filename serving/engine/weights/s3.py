"""A prefix in an S3-compatible object store: two reads, listing and getting, signed by us."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit
from xml.etree import ElementTree as Xml

from serving.engine.weights.credentials import Keys
from serving.engine.weights.errors import NotThereError, WeightsError
from serving.engine.weights.remote import Listing, RemoteFile
from serving.engine.weights.requester import Ask, Requester
from serving.engine.weights.settings import WeightsSettings
from serving.engine.weights.sigv4 import encoded, signed
from serving.engine.weights.sources import FILES_MAX, Bucket, checked_path

PAGES_MAX = 50
REGION = "us-east-1"
VIRTUAL_ONLY = re.compile(r"(^|\.)(amazonaws\.com(\.cn)?|aliyuncs\.com|myqcloud\.com|volces\.com)$")
"""Clouds that want `bucket.host`; most other stores (MinIO, Ceph) want `host/bucket`."""


class ObjectStore(NamedTuple):
    """One prefix. `clock` gives the time in UTC, which each signature carries."""

    bucket: Bucket
    base: str
    """With the bucket, in the store's way of addressing."""
    region: str
    keys: Keys | None
    clock: Callable[[], datetime]

    @property
    def name(self) -> str:
        """For messages."""
        return f"s3://{self.bucket.name}/{self.bucket.prefix} on {urlsplit(self.base).netloc}"

    async def list(self, requester: Requester, revision: str) -> Listing:
        """See `Remote`. Stores have no revisions: hashes pin what is found."""
        prefix = self.bucket.prefix
        files: list[RemoteFile] = []
        token = ""
        for _ in range(PAGES_MAX):
            query = {"list-type": "2", "max-keys": "1000", "prefix": prefix}
            if token:
                query["continuation-token"] = token
            text = "&".join(f"{k}={encoded(v)}" for k, v in sorted(query.items()))
            body, _ = await requester.read(self._asked(f"{self.base}/?{text}", "the list of files"))
            page = _parsed(body, self.name)
            files += [
                RemoteFile(checked_path(key.removeprefix(prefix)), size)
                for key, size in page.objects
                if key != prefix and not key.endswith("/")
            ]
            token = page.following
            if not token or len(files) > FILES_MAX:
                break
        if not files:
            raise NotThereError(f"{self.name} holds nothing; check bucket and prefix")
        return Listing(revision, tuple(files))

    def ask(self, path: str, revision: str) -> Ask:  # noqa: ARG002 - protocol
        """See `Remote`."""
        return self._asked(f"{self.base}/{encoded(self.bucket.prefix + path, '/')}", path)

    def _asked(self, url: str, what: str) -> Ask:
        secret = {}
        if self.keys is not None:
            secret = signed(url, self.keys, self.region, self.clock(), {})
        return Ask(url, {}, secret, f"s3://{self.bucket.name}: {what}")


def object_store(
    bucket: Bucket, settings: WeightsSettings, keys: Keys | None, clock: Callable[[], datetime]
) -> ObjectStore:
    """The store that the settings name."""
    region = settings.s3_region or REGION
    endpoint = settings.s3_url or f"https://s3.{region}.amazonaws.com"
    base = _base(endpoint.rstrip("/"), bucket.name, settings.s3_addressing)
    return ObjectStore(bucket, base, region, keys, clock)


def _base(endpoint: str, bucket: str, addressing: str) -> str:
    parts = urlsplit(endpoint)
    if addressing == "auto":
        is_virtual = not _is_address(parts.hostname or "") and bool(
            VIRTUAL_ONLY.search(parts.hostname or "")
        )
        # A dot in the bucket's name breaks the certificate of *.host.
        addressing = "virtual" if is_virtual and "." not in bucket else "path"
    if addressing == "path":
        return f"{endpoint}/{bucket}"
    return urlunsplit((parts.scheme, f"{bucket}.{parts.netloc}", parts.path, "", ""))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class _Page(NamedTuple):
    objects: list[tuple[str, int]]
    following: str


def _parsed(body: bytes, name: str) -> _Page:
    try:
        # The body's size is bounded, and expat itself bounds what entities may grow to.
        root = Xml.fromstring(body)  # noqa: S314
        objects = [
            (_text(node, "Key"), int(_text(node, "Size"))) for node in root.iterfind("{*}Contents")
        ]
    except (Xml.ParseError, ValueError) as error:
        raise WeightsError(f"{name} answers in a form we do not know: {error}") from None
    is_cut = root.findtext("{*}IsTruncated") == "true"
    return _Page(objects, (root.findtext("{*}NextContinuationToken") or "") if is_cut else "")


def _text(node: Xml.Element, tag: str) -> str:
    found = node.findtext("{*}" + tag)
    if found is None:
        raise ValueError(f"an object without {tag}")
    return found
