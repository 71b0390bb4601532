"""Tokens guessed from bytes, learnt from what engines report.

The gateway never tokenises on the request path. A model's tokens per byte depend mostly on the
script, so one ratio is kept for each of two classes. Pure values; the caller keeps them.
"""

from __future__ import annotations

from typing import Final

SAMPLE_BYTES: Final = 2048
_ALPHA: Final = 0.05
_RATIO_MIN: Final = 0.02
_RATIO_MAX: Final = 1.5
UPPER: Final = 1.3
"""Factor from the learnt mean to the bound that limits use."""


class TokenRatio:
    """Tokens per prompt byte of one model, for plain ASCII text and for everything else."""

    __slots__ = ("ascii", "other")

    def __init__(self) -> None:
        # Qwen and GLM tokenizers: about 4 bytes of English a token, about 4.5 bytes (1.5
        # characters) of Chinese; JSON framing included. First guesses, replaced by learning.
        self.ascii = 0.25
        self.other = 0.30

    def upper(self, prompt: bytes, size: int) -> int:
        """Upper bound of the tokens in a prompt of `size` bytes that begins like `prompt`."""
        ratio = self.ascii if prompt[:SAMPLE_BYTES].isascii() else self.other
        return int(size * ratio * UPPER) + 8

    def learn(self, prompt: bytes, size: int, tokens: int) -> None:
        """Take in one count by an engine. Counts that cannot be right are ignored."""
        if size < 64 or not (_RATIO_MIN <= tokens / size <= _RATIO_MAX):
            return
        ratio = tokens / size
        if prompt[:SAMPLE_BYTES].isascii():
            self.ascii += _ALPHA * (ratio - self.ascii)
        else:
            self.other += _ALPHA * (ratio - self.other)
