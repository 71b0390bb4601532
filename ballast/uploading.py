"""A file into an S3-compatible object store, in one signed write.

Endpoint, region and keys come from the environment, under the names that other tools read
(`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`). The object appears
whole or not at all. No parts: what is larger than a store takes at once is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from ballast.messages import Said
from ballast.problem import ProblemError, worded
from serving.engine.weights import credentials
from serving.engine.weights.errors import SourceError
from serving.engine.weights.s3 import object_store
from serving.engine.weights.settings import WeightsSettings, completed
from serving.engine.weights.sigv4 import encoded, signed_put
from serving.engine.weights.sources import Bucket
from serving.engine.weights.verify import sha256_of
from serving.settings import is_safe_url

SCHEME = "s3://"
BYTES_MAX = 5 << 30
"""The most that S3 takes in one write."""
IDLE_S = 60.0
TOTAL_S = 3600.0
ANSWER_BYTES_MAX = 2_000


def upload(file: Path, to: str, environ: Mapping[str, str]) -> None:
    """Put a file at `s3://bucket/key`. Raises ProblemError."""
    bucket, _, key = to.removeprefix(SCHEME).partition("/")
    if not bucket or not key or key.endswith("/"):
        raise ProblemError(Said("problem.no_object", to=repr(to)), Said("problem.as_s3"))
    size = file.stat().st_size
    if size > BYTES_MAX:
        what = Said("problem.one_write", bytes=f"{size:,}")
        raise ProblemError(what, Said("problem.export_shorter"))
    try:
        settings = completed(WeightsSettings(), environ)
        keys = credentials.keys("", environ)
        store = object_store(Bucket(bucket, ""), settings, keys, lambda: datetime.now(UTC))
    except SourceError as error:
        raise ProblemError(worded(error), Said("problem.store_variables")) from None
    url = f"{store.base}/{encoded(key, '/')}"
    if not is_safe_url(url):
        raise ProblemError(Said("problem.not_encrypted", url=url), Said("problem.use_https"))
    head = {"content-length": str(size)}
    if keys is not None:
        head |= signed_put(url, keys, store.region, store.clock(), sha256_of(file))
    try:
        asyncio.run(_put(url, head, file))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        why = f"{to}: {type(error).__name__}: {error}"[:300]
        raise ProblemError(why, Said("problem.check_network")) from None


async def _put(url: str, head: Mapping[str, str], file: Path) -> None:
    timeout = aiohttp.ClientTimeout(total=TOTAL_S, sock_read=IDLE_S, sock_connect=IDLE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with file.open("rb") as stream:
            put = session.put(url, data=stream, headers=head, allow_redirects=False)
            async with put as reply:
                if reply.status == 200:
                    return
                said = (await reply.content.read(ANSWER_BYTES_MAX)).decode("utf-8", "replace")
    raise ProblemError(
        Said("problem.store_answers", status=reply.status, said=" ".join(said.split())[:300]),
        Said("problem.check_bucket"),
    )
