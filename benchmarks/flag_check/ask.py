"""Puts every case to vLLM on paper: writes `config.json` folders, asks, collects verdicts."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.checkpoints import stand_in
from benchmarks.checkpoints.real_size import config
from benchmarks.flag_check.cases import Case
from models.bulk import GIB
from models.dialect import TEMPLATES
from models.flags import Flags, Start
from models.gpu import NODE_GPUS
from models.memory import DoesNotFit, fit
from serving.engine.paper.check import Question, Stage, Verdict
from serving.engine.paper.cuda import PaperGpu

COMPUTE_UNITS: Final = {80: 108, 90: 132}
"""By compute capability: A100 and H100 SXM, from NVIDIA's white papers of both."""
TIMEOUT_S: Final = 3000
SAID_MAX: Final = 2000
"""Letters of vLLM's words in an error."""
SIZES: Final = frozenset({
    "--model", "--served-model-name", "--max-model-len", "--max-num-seqs",
    "--max-num-batched-tokens", "--gpu-memory-utilization", "--max-cudagraph-capture-size",
    "--override-generation-config", "--reasoning-parser", "--tool-call-parser",
})  # fmt: skip
"""Flags that change no layer: cases that differ in them alone are built once."""


class Folders:
    """Folders with the `config.json` of each variant, written when first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._texts: dict[tuple[str, str], str] = {}
        _write(self.tokenizer, stand_in.files())

    @property
    def tokenizer(self) -> Path:
        """The stand-in that all share."""
        return self._root / "tokenizer"

    def digest(self, questions: Iterable[Question]) -> str:
        """What is asked, `config.json` files included, wherever these folders and we lie, and
        however far it is followed."""
        found = hashlib.sha256()
        for question in questions:
            text = msgspec.json.encode(msgspec.structs.replace(question, until="cache"))
            for place in (self._root, TEMPLATES):
                text = text.replace(str(place).encode(), b"")
            found.update(text)
        for key, written in sorted(self._texts.items()):
            found.update(f"{key} {written}".encode())
        return found.hexdigest()[:16]

    def of(self, case: Case) -> tuple[Path, str]:
        """Folder of the case's variant, and what its `config.json` says."""
        key = case.card.id, case.asked.variant
        folder = self._root / key[0] / key[1]
        if key not in self._texts:
            value = config(case.card, case.card.variants[key[1]])
            _write(folder, {"config.json": value})
            self._texts[key] = json.dumps(value, sort_keys=True)
        return folder, self._texts[key]


class Asker:
    """Turns cases into questions; of those that build the same layers only the first is built."""

    def __init__(self, folders: Folders, deepest: Stage = "cache") -> None:
        self._folders = folders
        self._deepest = deepest
        self._built: set[object] = set()

    def questions(self, cases: Iterable[Case]) -> Iterator[Question]:
        """Of the cases that the catalogue accepts."""
        for case in cases:
            folder, text = self._folders.of(case)
            found = case.flags(Start(path=str(folder), name=case.card.id))
            if isinstance(found, Flags):
                yield self._question(case, found, text)

    def _question(self, case: Case, found: Flags, text: str) -> Question:
        fits = fit(case.card, case.gpu, found.layout)
        assert not isinstance(fits, DoesNotFit)
        layers = tuple(flag.words for flag in found.arguments if flag.name not in SIZES)
        key = text, case.gpu.sm, layers
        until: Stage = "configuration" if key in self._built else self._deepest
        self._built.add(key)
        return Question(
            id=case.name,
            argv=(*found.argv, "--tokenizer", str(self._folders.tokenizer)),
            gpu=paper(case),
            environment={variable.name: variable.value for variable in found.environment},
            kv_bytes=int(fits.budget.left * GIB),
            until=until,
        )


def paper(case: Case) -> PaperGpu:
    """The case's GPU, as a machine with eight of them."""
    gpu = case.gpu
    return PaperGpu(gpu.name, gpu.sm, int(gpu.memory_gib * GIB), NODE_GPUS, COMPUTE_UNITS[gpu.sm])


def sample(questions: Iterable[Question], kinds: Container[str]) -> Iterator[Question]:
    """Of each card's variant on each of these kinds the first, as far as its configuration."""
    seen = set()
    for question in questions:
        model, _, kind = question.id.split(" ")[:3]
        if kind in kinds and (model, kind) not in seen:
            seen.add((model, kind))
            yield msgspec.structs.replace(question, until="configuration")


def ask(questions: Iterable[Question], log: Path) -> Iterator[Verdict]:
    """vLLM's verdicts, in no particular order. vLLM's own words go to `log`. Raises
    RuntimeError with the last of them when a check dies."""
    lines = b"".join(msgspec.json.encode(question) + b"\n" for question in questions)
    command = [sys.executable, "-m", "serving.engine.paper"]
    with log.open("wb") as words:
        done = subprocess.run(
            command, input=lines, stdout=subprocess.PIPE, stderr=words, check=False,
            timeout=TIMEOUT_S,
        )  # fmt: skip
    if done.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")[-SAID_MAX:]
        raise RuntimeError(f"the check ended with {done.returncode}: ...{said}")
    decode = msgspec.json.Decoder(Verdict).decode
    return (decode(line) for line in done.stdout.splitlines())


def _write(folder: Path, files: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
