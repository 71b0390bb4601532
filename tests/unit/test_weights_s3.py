"""The object store: Amazon's published signatures, and reads from a fake that checks them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serving.engine.weights import errors
from serving.engine.weights.credentials import Keys, keys, token
from serving.engine.weights.resolve import Order, Outside, Resolved, resolve
from serving.engine.weights.s3 import object_store
from serving.engine.weights.settings import WeightsSettings
from serving.engine.weights.sigv4 import signed
from serving.engine.weights.sources import Bucket
from serving.engine.weights.verify import sha256_of
from serving.fakes.object_store import FakeObjectStore
from serving.fakes.shelf import Trouble

# "Signature Calculations for the Authorization Header", Amazon S3 API reference: its own key, time
# and results.
EXAMPLE_KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = datetime(2013, 5, 24, tzinfo=UTC)
EXAMPLE_URL = "https://examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("path", "headers", "signature"),
    [
        (
            "/test.txt",
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("?lifecycle", {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "?max-keys=2&prefix=J",
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["object", "subresource", "listing"],
)
def test_signs_as_amazon_does(path: str, headers: dict[str, str], signature: str) -> None:
    found = signed(EXAMPLE_URL + path, EXAMPLE_KEYS, "us-east-1", EXAMPLE_TIME, headers)
    assert found["authorization"].endswith(f"Signature={signature}")
    assert found["x-amz-date"] == "20130524T000000Z"


@pytest.mark.parametrize(
    ("url", "addressing", "bucket", "base"),
    [
        (None, "auto", "models", "https://models.s3.cn-north-1.amazonaws.com"),
        ("https://oss-cn-hangzhou.aliyuncs.com", "auto", "models",
         "https://models.oss-cn-hangzhou.aliyuncs.com"),
        ("https://cos.ap-beijing.myqcloud.com", "auto", "models-125",
         "https://models-125.cos.ap-beijing.myqcloud.com"),
        ("http://10.0.0.5:9000", "auto", "models", "http://10.0.0.5:9000/models"),
        ("http://minio:9000/", "auto", "models", "http://minio:9000/models"),
        ("http://minio:9000", "virtual", "models", "http://models.minio:9000"),
        (None, "auto", "dotted.name", "https://s3.cn-north-1.amazonaws.com/dotted.name"),
        (None, "path", "models", "https://s3.cn-north-1.amazonaws.com/models"),
    ],
)  # fmt: skip
def test_a_bucket_is_addressed_as_its_cloud_wants(
    url: str | None, addressing: Any, bucket: str, base: str
) -> None:
    settings = WeightsSettings(s3_url=url, s3_region="cn-north-1", s3_addressing=addressing)
    store = object_store(Bucket(bucket, "a/"), settings, None, lambda: EXAMPLE_TIME)
    assert store.base == base


class Scene:
    """A store with one model under a prefix, and a client."""

    source = "s3://models/qwen 3/tiny~1"

    def __init__(self, store: FakeObjectStore, url: str, cache: Path) -> None:
        self.store, self.url, self.cache = store, url, cache
        self.environ: dict[str, str] = {}
        self.pauses_s: list[float] = []

    async def fetch(self, source: str = "", **settings: Any) -> Resolved:
        async def sleep(seconds: float) -> None:
            self.pauses_s.append(seconds)
            await asyncio.sleep(0)

        values = {"s3_url": self.url, "disk_reserve_mib": 0} | settings
        outside = Outside(self.environ, sleep=sleep)
        order = Order(source or self.source, self.cache)
        return await resolve(order, WeightsSettings(**values), outside)

    def name(self, path: str) -> str:
        return f"qwen 3/tiny~1/{path}"


Play = Callable[[Callable[[Scene], Awaitable[Any]]], Any]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a scenario beside a store that wants signatures."""
    head = json.dumps({"t": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}).encode()
    weights = len(head).to_bytes(8, "little") + head + b"123456789"

    def run(scenario: Callable[[Scene], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            store = FakeObjectStore("models")
            store.key_id, store.secret = "AKID", "s3-secret"
            served = await store.start()
            scene = Scene(store, served.url, tmp_path / "cache")
            scene.environ = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s3-secret"}
            store.shelf.files |= {
                scene.name("config.json"): b"{}",
                scene.name("model.safetensors"): weights,
                scene.name("a+b (1).json"): b"[]",
                scene.name("pytorch_model.bin"): b"pickle",
                "qwen 3/tiny~10/config.json": b"another model",
                scene.name(""): b"",
            }
            try:
                return await scenario(scene)
            finally:
                await served.close()

        return asyncio.run(main())

    return run


def test_fetches_a_prefix_with_signed_requests(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        found = await scene.fetch()
        assert sorted(os.listdir(found.path)) == [
            "a+b (1).json",
            "config.json",
            "model.safetensors",
        ]
        assert (await scene.fetch()).is_cold is False
        assert "s3-secret" not in repr(scene.store.shelf.seen)

    play(scenario)


def test_a_public_bucket_needs_no_key(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        scene.store.key_id = ""
        scene.environ.clear()
        await scene.fetch()
        assert all("authorization" not in s.headers for s in scene.store.shelf.seen)

    play(scenario)


def test_keys_may_lie_in_a_file(play: Play, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.environ.clear()
        file = tmp_path / "credentials"
        file.write_text("[default]\naws_access_key_id = AKID\naws_secret_access_key = s3-secret\n")
        await scene.fetch(s3_credentials_file=str(file))

    play(scenario)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
    ],
)
def test_a_wrong_key_is_named_by_the_stores_code(
    play: Play, environ: dict[str, str], words: str
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.environ |= environ
        with pytest.raises(errors.AccessError, match=words) as caught:
            await scene.fetch()
        assert "s3-secret" not in str(caught.value)

    play(scenario)


@pytest.mark.parametrize(
    ("source", "words"),
    [("s3://nobucket/x", "NoSuchBucket"), ("s3://models/nothing/here", "holds nothing")],
)
def test_what_is_not_there_is_said(play: Play, source: str, words: str) -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(errors.NotThereError, match=words):
            await scene.fetch(source)

    play(scenario)


def test_sums_beside_the_objects_are_checked(play: Play, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        files = scene.store.shelf.files
        (tmp_path / "x").write_bytes(files[scene.name("model.safetensors")])
        right = sha256_of(tmp_path / "x")
        files[scene.name("SHA256SUMS")] = f"{right} *./model.safetensors\n".encode()
        scene.store.shelf.troubles[scene.name("model.safetensors")] = [Trouble(is_wrong=True)] * 5
        with pytest.raises(errors.WrongBytesError, match=right):
            await scene.fetch()
        scene.store.shelf.troubles.clear()
        await scene.fetch()

    play(scenario)


def test_streaming_from_the_store_is_left_to_the_engine(play: Play, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        order = Order("s3://models/qwen", scene.cache, load="runai_streamer")
        found = await resolve(order, WeightsSettings(s3_url=scene.url), Outside({}))
        assert found == Resolved("s3://models/qwen", "runai_streamer")
        assert scene.store.shelf.seen == []

    play(scenario)


def test_hashes_that_nobody_could_check_are_refused(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        sums = (("model.safetensors", "0" * 64),)
        order = Order("s3://models/qwen", scene.cache, load="runai_streamer", sums=sums)
        with pytest.raises(errors.SourceError, match="held against none"):
            await resolve(order, WeightsSettings(s3_url=scene.url), Outside({}))

    play(scenario)


def test_half_a_key_is_refused() -> None:
    with pytest.raises(errors.SourceError, match="go together"):
        keys("", {"AWS_ACCESS_KEY_ID": "AKID"})


def test_an_unreadable_credentials_file_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("[other]\nmy-secret-line\n")
    with pytest.raises(errors.SourceError) as caught:
        keys(str(file), {})
    assert "my-secret-line" not in str(caught.value)
    with pytest.raises(errors.SourceError, match="No such file"):
        token(str(tmp_path / "none"), "HF_TOKEN", {})


def test_keys_do_not_show_themselves() -> None:
    assert "secret" not in repr(Keys("id", "secret"))
