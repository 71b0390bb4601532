"""An upload ends on its own, and one tenant's leave room for others'."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving.batch.desk import Desk
from serving.batch.settings import BatchSettings
from serving.batch.sqlite import SqliteBatches
from serving.batch.upload import Terms, Upload
from serving.errors import CallerError
from serving.records import Caller, Policy

FORM = "multipart/form-data; boundary=b"


def caller(tenant: str = "acme") -> Caller:
    return Caller("k", tenant, "p", Policy())


def terms(path: Path, **given: float) -> Terms:
    desk = Desk(lambda: SqliteBatches.open(path / "batches.sqlite"))
    return Terms(desk, BatchSettings(**given), lambda: 1000)


def test_an_upload_that_nobody_ends_gives_up_after_its_time(tmp_path: Path) -> None:
    async def check() -> None:
        made = terms(tmp_path, upload_wait_s=0.05)
        upload = Upload(made, caller(), FORM, asyncio.Transport())
        over = asyncio.Event()
        upload.when_over(over.set)
        await asyncio.wait_for(over.wait(), 10.0)
        with pytest.raises(CallerError, match="not stored within") as refused:
            await upload.file()
        assert refused.value.code == "request_timeout"
        await made.desk.close()

    asyncio.run(check())


def test_an_upload_whose_file_was_removed_meanwhile_says_so(tmp_path: Path) -> None:
    async def check() -> None:
        made = terms(tmp_path)
        upload = Upload(made, caller(), FORM, asyncio.Transport())
        upload.feed(b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nx')
        async with asyncio.timeout(10.0):
            while not (await made.desk.ask(lambda store: store.used("acme"))).files:
                await asyncio.sleep(0.01)
        assert await made.desk.ask(lambda store: store.erase("acme")) == 1
        upload.feed(
            b'yz\r\n--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
        )
        upload.end(is_whole=True)
        with pytest.raises(CallerError, match="removed while it came in") as refused:
            await upload.file()
        assert refused.value.code == "conflict"
        assert (await made.desk.ask(lambda store: store.used("acme"))).files == 0
        await made.desk.close()

    asyncio.run(check())


@pytest.mark.parametrize(
    "part",
    [b'content-disposition: form-data; name="\x03"', b"no header at all", b"a b: c", b": x"],
    ids=["control", "no-colon", "space", "no-name"],
)
def test_a_part_whose_headers_cannot_be_read_is_refused_by_name(
    tmp_path: Path, part: bytes
) -> None:
    async def check() -> None:
        made = terms(tmp_path)
        upload = Upload(made, caller(), FORM, asyncio.Transport())
        upload.feed(b"--b\r\n" + part + b"\r\n\r\nx\r\n--b--\r\n")
        upload.end(is_whole=True)
        with pytest.raises(CallerError) as refused:
            await upload.file()
        assert refused.value.code == "invalid_value"
        await made.desk.close()

    asyncio.run(check())
