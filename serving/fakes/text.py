"""Deterministic text: what the simulated engine and provider say, and how they count tokens.

Pure. Token `i` of an answer is a function of (seed, i), so a test can recompute a whole answer and
see what was lost, repeated or reordered. A token is about four bytes of input.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Final

_SYLLABLES: Final = ("bal", "kor", "ven", "tis", "mar", "lun", "dex", "fol", "gri", "han", "pel")
_ENDINGS: Final = ("a", "en", "is", "or", "um", "ay", "ic", "el", "os", "ut", "im")
_WIDE: Final = ("压舱石", "模型", "你好", "é", "naïve", "🙂", "數據")
VOCABULARY: Final[tuple[str, ...]] = tuple(
    f" {word}" for word in (*(f"{head}{tail}" for head in _SYLLABLES for tail in _ENDINGS), *_WIDE)
)
"""128 words, each one token with its leading space; seven hold multi-byte characters."""
VOCABULARY_JSON: Final[tuple[bytes, ...]] = tuple(
    json.dumps(word, ensure_ascii=False).encode() for word in VOCABULARY
)
"""The same words as JSON strings."""

BYTES_PER_TOKEN: Final = 4
MESSAGE_OVERHEAD_TOKENS: Final = 4
"""Tokens a chat template spends on each message."""
_NATURAL_TOKENS_MIN: Final = 32
_NATURAL_TOKENS_SPREAD: Final = 225
_MASK: Final = (1 << 64) - 1


def seed_of(text: str, seed: int | None = None) -> int:
    """The answer's seed: a hash of the prompt and of the request's own `seed`, if it has one."""
    digest = hashlib.blake2b(f"{seed}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def choice_seed(seed: int, choice: int) -> int:
    """The seed of one choice of an answer with `n` choices; choice 0 has the answer's own."""
    return (seed + choice * 0x9E3779B97F4A7C15) & _MASK


def token_id(seed: int, index: int) -> int:
    """Token `index` of the answer with `seed`, as an index into `VOCABULARY`."""
    mixed = (seed + (index + 1) * 0xD1342543DE82EF95) & _MASK
    mixed = ((mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93) & _MASK
    return (mixed >> 40) % len(VOCABULARY)


def answer_text(seed: int, tokens: int) -> str:
    """The first `tokens` tokens of the answer with `seed`, as text."""
    return "".join(VOCABULARY[token_id(seed, index)] for index in range(tokens))


def natural_tokens(seed: int) -> int:
    """Where the answer with `seed` would end by itself: 32 to 256 tokens."""
    return _NATURAL_TOKENS_MIN + (seed >> 17) % _NATURAL_TOKENS_SPREAD


def tokenize(text: str) -> list[int]:
    """Token ids of an input text: one for each four bytes begun."""
    data = text.encode("utf-8", "surrogatepass")
    return [
        int.from_bytes(data[at : at + BYTES_PER_TOKEN], "big") % 151_936
        for at in range(0, len(data), BYTES_PER_TOKEN)
    ]


def count_tokens(text: str) -> int:
    """How many tokens `tokenize` gives, without making them."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return (size + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN


class StopScanner:
    """Cuts text at the first stop word, holding back what could be the beginning of one."""

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._hold = max((len(stop) for stop in self._stops), default=1) - 1
        self._pending = ""

    def push(self, text: str, *, is_last: bool) -> tuple[str, bool]:
        """What may be shown now, and whether a stop word was met (it is not part of the text)."""
        self._pending += text
        hits = [at for stop in self._stops if (at := self._pending.find(stop)) >= 0]
        if hits:
            shown, self._pending = self._pending[: min(hits)], ""
            return shown, True
        keep = 0 if is_last else min(self._hold, len(self._pending))
        cut = len(self._pending) - keep
        shown, self._pending = self._pending[:cut], self._pending[cut:]
        return shown, False
