"""What transformers says of a checkpoint, for tests that compare an engine with it.

A process of its own, as its imports warn and take seconds. Reads JSON lines `{"folder", "ids"}`
from stdin; answers with one each: the log-probability of every id after the first given those
before it, and the hidden state of the last. Computes in float32 on one thread.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText


@functools.lru_cache(maxsize=1)
def model(folder: str) -> Any:
    """The checkpoint as transformers loads it; nothing may be missing or left over."""
    has_pictures = hasattr(AutoConfig.from_pretrained(folder), "vision_config")
    kind = AutoModelForImageTextToText if has_pictures else AutoModelForCausalLM
    loaded, told = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    wrong = {key: sorted(map(str, names)) for key, names in told.items() if names}
    assert not wrong, wrong
    return loaded.eval()


@torch.no_grad()
def judge(folder: str, ids: list[int]) -> dict[str, list[float]]:
    """Log-probabilities and the last hidden state."""
    out = model(folder)(torch.tensor([ids]), output_hidden_states=True)
    chances = torch.log_softmax(out.logits[0, :-1].float(), dim=-1)
    of_each = chances.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return {"logprobs": of_each.tolist(), "hidden": out.hidden_states[-1][0, -1].tolist()}


def main() -> None:
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(judge(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
