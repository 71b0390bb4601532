"""Fetching from hubs: real HTTP against a fake Hugging Face, its CDN, and a fake ModelScope."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from serving.engine.weights import errors
from serving.engine.weights.resolve import Order, Outside, Resolved, resolve
from serving.engine.weights.settings import WeightsSettings
from serving.fakes.hub import SIGNATURE, FakeHub
from serving.fakes.shelf import Trouble

REPO = "Qwen/Tiny-0.1B"
SHARD = "model-00002-of-00002.safetensors"
T = TypeVar("T")


def safetensors(seed: int, size: int = 300_000) -> bytes:
    """A file of the format with one tensor of `size` bytes."""
    head = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(head).to_bytes(8, "little") + head + random.Random(seed).randbytes(size)


def repository() -> dict[str, bytes]:
    """What a repository of a model holds, useful and other."""
    names = ["model-00001-of-00002.safetensors", SHARD]
    index = {"metadata": {}, "weight_map": {"a": names[0], "b": names[1]}}
    return {
        "config.json": b'{"model_type":"qwen3"}',
        "tokenizer.json": json.dumps({"vocab": list(range(2000))}).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        names[0]: safetensors(1),
        names[1]: safetensors(2),
        "chat_template.jinja": b"{{ messages }}",
        "1_Pooling/config.json": b"{}",
        "modeling_tiny.py": b"import os",
        "pytorch_model.bin": b"\x80pickle",
        "training_args.bin": b"\x80pickle",
        "figures/a.png": b"png",
        "onnx/config.json": b"{}",
        "README.md": b"# Tiny",
        ".gitattributes": b"",
    }


KEPT = sorted(
    ["config.json", "tokenizer.json", "model.safetensors.index.json", "1_Pooling/config.json",
     "model-00001-of-00002.safetensors", SHARD, "chat_template.jinja"]
)  # fmt: skip


class Scene:
    """A hub, and a client beside it with a cache of its own."""

    def __init__(self, hub: FakeHub, url: str, cache: Path) -> None:
        self.hub, self.url, self.cache = hub, url, cache
        self.environ: dict[str, str] = {}
        self.pauses_s: list[float] = []
        self.bytes = 0

    async def fetch(
        self, source: str = REPO, *, order: dict[str, Any] | None = None, **settings: Any
    ) -> Resolved:
        """Resolve a source against the fakes."""
        values = {
            "huggingface_url": self.url, "modelscope_url": self.url, "connect_s": 2.0,
            "disk_reserve_mib": 0,
        } | settings  # fmt: skip
        outside = Outside(self.environ, sleep=self._sleep, on_bytes=self._count)
        asked = Order(source, self.cache, **(order or {}))
        return await resolve(asked, WeightsSettings(**values), outside)

    async def _sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        await asyncio.sleep(0)

    def _count(self, count: int) -> None:
        self.bytes += count

    def asked(self, name: str) -> list[dict[str, str]]:
        """Headers of the requests for a file, at hub and CDN."""
        seen = [*self.hub.shelf.seen, *self.hub.cdn.seen]
        return [dict(s.headers) for s in seen if s.path.endswith(name) or name in s.query]

    def staging(self) -> Path:
        (folder,) = self.cache.glob(".*.staging")
        return folder


Play = Callable[[Callable[[Scene], Awaitable[T]]], T]


@pytest.fixture
def play(tmp_path: Path) -> Play[Any]:
    """Run a scenario beside a hub with one repository."""

    def run(scenario: Callable[[Scene], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            hub = FakeHub(REPO)
            hub.shelf.files.update(repository())
            served, cdn = await hub.start()
            try:
                return await scenario(Scene(hub, served.url, tmp_path / "cache"))
            finally:
                await served.close()
                await cdn.close()

        return asyncio.run(main())

    return run


def files_of(folder: str | Path) -> list[str]:
    root = Path(folder)
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


@pytest.mark.parametrize("source", [REPO, f"modelscope:{REPO}"], ids=["huggingface", "modelscope"])
def test_fetches_what_an_engine_reads_and_nothing_else(play: Play[Any], source: str) -> None:
    async def scenario(scene: Scene) -> None:
        found = await scene.fetch(source)
        assert found.is_cold
        assert files_of(found.path) == KEPT
        for name in KEPT:
            assert (Path(found.path) / name).read_bytes() == scene.hub.shelf.files[name]
        assert found.bytes_fetched == scene.bytes == sum(len(repository()[n]) for n in KEPT)

    play(scenario)


def test_a_warm_start_asks_nobody(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        first = await scene.fetch()
        scene.hub.shelf.seen.clear()
        second = await scene.fetch()
        third = await scene.fetch(is_offline=True)
        assert (second.path, second.is_cold) == (first.path, False)
        assert third == second
        assert scene.hub.shelf.seen == []

    play(scenario)


def test_python_files_come_only_with_leave(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        plain = await scene.fetch()
        trusted = await scene.fetch(order={"with_code": True})
        assert "modeling_tiny.py" not in files_of(plain.path)
        assert "modeling_tiny.py" in files_of(trusted.path)

    play(scenario)


def test_a_repository_of_pickles_is_refused(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        for name in list(scene.hub.shelf.files):
            if ".safetensors" in name:
                del scene.hub.shelf.files[name]
        with pytest.raises(errors.UnsafeError, match=r"only as pytorch_model\.bin"):
            await scene.fetch()
        assert scene.hub.cdn.seen == []

    play(scenario)


def test_a_repository_with_a_missing_shard_is_refused_before_the_large_files(
    play: Play[Any],
) -> None:
    async def scenario(scene: Scene) -> None:
        del scene.hub.shelf.files[SHARD]
        with pytest.raises(
            errors.IncompleteError, match=f"1 of 2 shards are missing, first {SHARD}"
        ):
            await scene.fetch()
        assert not [s for s in scene.hub.cdn.seen if s.path.endswith(".safetensors")]

    play(scenario)


@pytest.mark.parametrize("path", ["../evil.json", "/etc/evil.json", "a//b.json", "a\\b.json"])
def test_a_listing_may_not_name_files_outside_the_folder(play: Play[Any], path: str) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.extra_paths.append(path)
        with pytest.raises(errors.UnsafeError, match="may not be written"):
            await scene.fetch()

    play(scenario)


@pytest.mark.parametrize("source", [REPO, f"modelscope:{REPO}"], ids=["huggingface", "modelscope"])
def test_a_token_opens_the_hub_and_never_reaches_the_cdn(play: Play[Any], source: str) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.token = "hf_very_secret"
        scene.environ |= {"HF_TOKEN": "hf_very_secret", "MODELSCOPE_API_TOKEN": "hf_very_secret"}
        await scene.fetch(source)
        assert scene.hub.shelf.seen
        assert "hf_very_secret" not in json.dumps([dict(s.headers) for s in scene.hub.cdn.seen])

    play(scenario)


def test_a_token_may_lie_in_a_file(play: Play[Any], tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        (tmp_path / "token").write_text("from-a-file\n")
        scene.hub.token = "from-a-file"
        await scene.fetch(huggingface_token_file=str(tmp_path / "token"))

    play(scenario)


def test_a_wrong_token_is_an_error_that_does_not_show_it(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.token = "right"
        scene.environ["HF_TOKEN"] = "wrong-secret"
        with pytest.raises(errors.AccessError) as caught:
            await scene.fetch()
        assert "401" in str(caught.value)
        assert "credentials sent are not good" in str(caught.value)
        assert "wrong-secret" not in repr(caught.value)
        assert scene.pauses_s == []

    play(scenario)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((401, "RepoNotFound"), errors.AccessError, "no credentials were sent"),
        ((403, "GatedRepo"), errors.AccessError, "GatedRepo"),
        ((404, "RevisionNotFound"), errors.NotThereError, "check the name and the revision"),
        ((418, "Teapot"), errors.WeightsError, "418"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(
    play: Play[Any], answer: tuple[int, str], kind: type[Exception], words: str
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.error = answer
        with pytest.raises(kind, match=words):
            await scene.fetch()
        assert scene.pauses_s == []

    play(scenario)


def test_an_unknown_revision_of_modelscope_is_said(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(errors.NotThereError, match="no such revision"):
            await scene.fetch(f"modelscope:{REPO}@v9")

    play(scenario)


def test_a_busy_hub_is_asked_again_and_at_last_given_up(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.error = (503, "")
        with pytest.raises(errors.TransferError, match="503"):
            await scene.fetch(attempts_max=4)
        assert scene.pauses_s == [1.0, 2.0, 4.0]

    play(scenario)


def test_a_hub_that_is_away_is_a_passing_error(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(errors.TransferError) as caught:
            await scene.fetch(huggingface_url="http://127.0.0.1:9", attempts_max=2)
        assert caught.value.is_passing

    play(scenario)


def test_a_broken_connection_is_resumed_where_it_broke(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.cdn.troubles[SHARD] = [Trouble(cut_after=100_000), Trouble(cut_after=50_000)]
        found = await scene.fetch()
        assert (Path(found.path) / SHARD).read_bytes() == scene.hub.shelf.files[SHARD]
        ranges = [h.get("range", "") for h in scene.asked(SHARD) if "if-range" in h]
        assert ranges
        assert all(int(r.removeprefix("bytes=").rstrip("-")) > 0 for r in ranges)

    play(scenario)


def test_a_killed_fetch_is_gone_on_with_by_the_next_process(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.cdn.troubles[SHARD] = [Trouble(stall_after=200_000)]
        fetching = asyncio.create_task(scene.fetch())
        partials: list[Path] = []
        while not partials or partials[0].stat().st_size < 1:
            partials = list(scene.cache.glob(f".*/{SHARD}.partial"))
            # A chunk is only written when it is whole, or the stream ends.
            if scene.hub.cdn.troubles[SHARD] == [] and partials:
                break
            await asyncio.sleep(0.01)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        scene.hub.shelf.seen.clear()
        scene.hub.cdn.seen.clear()
        found = await scene.fetch()
        assert files_of(found.path) == KEPT
        assert scene.asked("chat_template.jinja") == [], "what is whole is not fetched again"

    play(scenario)


def test_a_silent_connection_is_given_up_and_resumed(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.cdn.troubles[SHARD] = [Trouble(stall_after=200_000)]
        found = await scene.fetch(idle_s=0.2)
        assert (Path(found.path) / SHARD).read_bytes() == scene.hub.shelf.files[SHARD]
        assert len(scene.asked(SHARD)) >= 2

    play(scenario)


def test_a_file_that_changed_meanwhile_is_taken_anew(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.tells_hashes = False
        files = scene.hub.shelf.files
        old = files[SHARD]
        scene.hub.shelf.troubles[SHARD] = [Trouble(cut_after=150_000)]
        changed = safetensors(99)
        assert len(changed) == len(old)

        async def change_in_between(seconds: float) -> None:
            files[SHARD] = changed
            await asyncio.sleep(0)

        scene._sleep = change_in_between  # type: ignore[method-assign]
        found = await scene.fetch(f"modelscope:{REPO}")
        assert (Path(found.path) / SHARD).read_bytes() == changed

    play(scenario)


def test_a_server_without_ranges_sends_all_again(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.cdn.troubles[SHARD] = [
            Trouble(cut_after=100_000), Trouble(has_no_ranges=True)
        ]  # fmt: skip
        found = await scene.fetch()
        assert (Path(found.path) / SHARD).read_bytes() == scene.hub.shelf.files[SHARD]
        assert scene.bytes == found.bytes_fetched

    play(scenario)


def test_wrong_bytes_are_fetched_once_more_and_then_refused(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.cdn.troubles[SHARD] = [Trouble(is_wrong=True)]
        await scene.fetch()
        assert len([s for s in scene.hub.cdn.seen if s.path.endswith(SHARD)]) == 2

    play(scenario)


def test_wrong_bytes_never_become_a_model(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.cdn.troubles[SHARD] = [Trouble(is_wrong=True)] * 9
        with pytest.raises(errors.WrongBytesError) as caught:
            await scene.fetch()
        right = hashlib.sha256(scene.hub.shelf.files[SHARD]).hexdigest()
        assert SHARD in str(caught.value)
        assert right in str(caught.value)
        assert [p for p in scene.cache.iterdir() if p.is_dir() and p.name[0] != "."] == []
        assert not (scene.staging() / SHARD).exists()
        assert not (scene.staging() / f"{SHARD}.partial").exists()

    play(scenario)


def test_wrong_bytes_of_a_small_file_are_seen_by_gits_own_hash(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.shelf.troubles["config.json"] = [Trouble(is_wrong=True)] * 9
        with pytest.raises(errors.WrongBytesError, match=r"config\.json"):
            await scene.fetch()

    play(scenario)


def test_what_no_source_tells_is_pinned_at_the_first_fetch(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.tells_hashes = False
        source = f"modelscope:{REPO}"
        found = await scene.fetch(source)
        (pin,) = scene.cache.glob("*.pin.json")
        hashes = {n: f["sha256"] for n, f in json.loads(pin.read_bytes())["files"].items()}
        assert hashes[SHARD] == hashlib.sha256(scene.hub.shelf.files[SHARD]).hexdigest()
        # The folder is lost, and the source has other bytes of the same length now.
        os.rename(found.path, scene.cache / "lost")
        scene.hub.shelf.files[SHARD] = safetensors(77)
        with pytest.raises(errors.WrongBytesError, match=SHARD):
            await scene.fetch(source)
        pin.unlink()
        assert (await scene.fetch(source)).is_cold

    play(scenario)


def test_a_branch_is_pinned_to_its_commit(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        found = await scene.fetch()
        os.rename(found.path, scene.cache / "lost")
        scene.hub.shelf.seen.clear()
        await scene.fetch()
        listings = [s.path for s in scene.hub.shelf.seen if "/revision/" in s.path]
        assert listings == [f"/api/models/{REPO}/revision/{scene.hub.commit}"]

    play(scenario)


def test_a_file_that_appears_later_is_not_taken_silently(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        found = await scene.fetch()
        os.rename(found.path, scene.cache / "lost")
        scene.hub.shelf.files["generation_config.json"] = b"{}"
        with pytest.raises(errors.WrongBytesError, match=r"generation_config\.json is new in"):
            await scene.fetch()

    play(scenario)


def test_a_manifest_is_stronger_than_the_hub(play: Play[Any], tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        (tmp_path / "sums").write_text(f"{'0' * 64}  {SHARD}\n")
        with pytest.raises(errors.WrongBytesError, match="records differ"):
            await scene.fetch(order={"manifest": str(tmp_path / "sums")})
        assert scene.hub.cdn.seen == []

    play(scenario)


@pytest.mark.parametrize("verify", ["always", "changed"])
def test_a_cached_file_that_went_bad_is_mended(play: Play[Any], verify: str) -> None:
    async def scenario(scene: Scene) -> None:
        found = await scene.fetch()
        path = Path(found.path) / SHARD
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        stat = path.stat()
        path.write_bytes(data)
        if verify == "always":
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with pytest.raises(errors.WrongBytesError, match="and offline"):
            await scene.fetch(verify=verify, is_offline=True)
        scene.hub.cdn.seen.clear()
        again = await scene.fetch(verify=verify)
        assert again.path == found.path
        assert path.read_bytes() == scene.hub.shelf.files[SHARD]
        assert {s.path for s in scene.hub.cdn.seen} == {f"/{SHARD}"}

    play(scenario)


def test_offline_without_the_model_says_so(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(errors.OfflineError, match="offline mode forbids"):
            await scene.fetch(is_offline=True)
        assert scene.hub.shelf.seen == []

    play(scenario)


def test_two_processes_fetch_once(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        one, other = await asyncio.gather(scene.fetch(), scene.fetch())
        assert one.path == other.path
        assert sorted([one.is_cold, other.is_cold]) == [False, True]
        assert len(scene.asked(SHARD)) == 2, "once at the hub, once at its CDN"

    play(scenario)


def test_a_fetch_that_never_ends_is_not_waited_for_without_end(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.cdn.troubles[SHARD] = [Trouble(stall_after=0)] * 99
        with pytest.raises(errors.TransferError, match="not within"):
            await scene.fetch(deadline_s=0.5)
        with pytest.raises(errors.WeightsError):
            await scene.fetch(deadline_s=0.2)

    play(scenario)


def test_a_disk_without_room_is_refused_before_anything_is_fetched(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(errors.DiskFullError, match="still to come"):
            await scene.fetch(disk_reserve_mib=1 << 30)
        assert scene.hub.cdn.seen == []

    play(scenario)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full: ENOSPC is untested")
def test_a_disk_that_fills_up_on_the_way_is_said(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.tells_hashes = False
        source = f"modelscope:{REPO}"
        scene.hub.shelf.troubles[SHARD] = [Trouble(status=403)]
        with pytest.raises(errors.AccessError):
            await scene.fetch(source)
        (scene.staging() / f"{SHARD}.partial").symlink_to("/dev/full")
        with pytest.raises(errors.DiskFullError, match="it goes on where it stopped"):
            await scene.fetch(source)

    play(scenario)


def test_a_signed_url_is_in_no_message(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.hub.cdn.troubles[SHARD] = [Trouble(status=500)] * 99
        with pytest.raises(errors.TransferError) as caught:
            await scene.fetch(attempts_max=2)
        assert SIGNATURE not in str(caught.value)
        assert SHARD in str(caught.value)

    play(scenario)


def test_retry_after_is_heeded(play: Play[Any]) -> None:
    async def scenario(scene: Scene) -> None:
        busy = Trouble(status=429, headers={"retry-after": "7"})
        scene.hub.cdn.troubles[SHARD] = [busy]
        await scene.fetch()
        assert scene.pauses_s == [7.0]

    play(scenario)
