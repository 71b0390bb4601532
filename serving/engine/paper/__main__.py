"""Checks engines on paper: questions as JSON lines on stdin, verdicts as JSON lines on stdout.

`python -m serving.engine.paper < questions`. All questions are read before the first is answered.
vLLM is imported once; then forks answer, all at once, each for one compute capability, since
vLLM remembers the one it met. Offline by construction: nothing is fetched, no server started.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import time
from collections import defaultdict

import msgspec

from serving.engine.paper import cuda
from serving.engine.paper.check import Question, check

ENVIRONMENT = {
    "VLLM_PLUGINS": "", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR", "CUDA_VISIBLE_DEVICES": "",
    "VLLM_DISABLE_SHARED_EXPERTS_STREAM": "1",  # there is no stream to make
}  # fmt: skip

FORKS = 2
"""For each capability, so that cores end together."""


def main() -> int:
    """Answer stdin."""
    decode = msgspec.json.Decoder(Question).decode
    groups: dict[tuple[int, int], list[Question]] = defaultdict(list)
    for index, line in enumerate(sys.stdin.buffer):
        question = decode(line)
        groups[question.gpu.capability, index % FORKS].append(question)
    os.environ.update(ENVIRONMENT)
    answers = os.dup(1)
    os.dup2(2, 1)
    _import()
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_answer, args=(group, answers)) for group in groups.values()]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return max((abs(child.exitcode or 0) for child in children), default=0)


def _import() -> None:
    started_s = time.monotonic()
    cuda.pretend()
    from serving.engine.vllm_cpu import inspect_models_here

    for name in ("vllm.engine.arg_utils", "vllm.entrypoints.launchers.cli_args"):
        importlib.import_module(name)
    inspect_models_here()
    sys.stderr.write(f"vLLM imported after {time.monotonic() - started_s:.1f} s\n")


def _answer(questions: list[Question], answers: int) -> None:
    from serving.engine.vllm_cpu import use_pillow_without_torchvision

    cuda.become(questions[0].gpu)
    use_pillow_without_torchvision()
    encode = msgspec.json.Encoder().encode
    for question in questions:
        os.write(answers, encode(check(question)) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
