"""Memory and speed of the real engine, as the catalogue's arithmetic and its profiler see them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from typing import Any

import pytest

from models.pool import Split, pool_of
from models.shape import Shape

MODEL = "smollm2-135m-instruct"
CPU_BLOCK = 128
"""Tokens, vLLM's default on a CPU."""
EMBEDDED = Shape(
    attention="gqa", layers=30, attention_layers=30, hidden=576, heads=9, kv_heads=3, head_dim=64,
    source="its config.json",
)  # fmt: skip
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def address(stack: Any) -> str:
    return str(stack.get(f"{stack.ops}/fleet")["models"][MODEL]["replicas"][0]["address"])


def test_the_engine_holds_the_tokens_that_memory_predicts(stack: Any) -> None:
    secret = (stack.state / "secret").read_text().split()[0]
    request = urllib.request.Request(
        f"http://{address(stack)}/metrics", headers={"x-ballast-secret": secret}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        page = response.read().decode()
    line = next(row for row in page.splitlines() if row.startswith("vllm:cache_config_info{"))
    labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
    held = int(labels["num_gpu_blocks"]) * int(labels["block_size"])
    predicted = []
    for element_bytes in (2, 4):  # BF16, or float32 on a CPU without it
        pool = pool_of(EMBEDDED, Split(element_bytes=element_bytes, alignment=CPU_BLOCK))
        predicted.append(pool.blocks(1 << 30) * pool.block_tokens)
    assert held in [pytest.approx(tokens, rel=0.03) for tokens in predicted], labels


@pytest.mark.full
def test_profile_measures_the_engine_through_its_secret(stack: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ballast", "models", "profile", f"http://{address(stack)}/v1",
         "--secret-file", str(stack.state / "secret"), "--sequences", "4", "--context", "1024",
         "--budget", "150", "--json"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["base_ms"] + found["per_sequence_ms"] > 0
    assert found["per_kilo_prefill_ms"] > 0
    assert found["points"] >= 9
