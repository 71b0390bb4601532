"""Texts as models send them, and term lists of a size that is asked for."""

from __future__ import annotations

import random
import string

from serving.guard.values import Action, Term

SEED = 20261125
CHINESE = (
    "我们今天来讨论一下，如何在有限的预算之内按时完成这个项目，并且保证交付的质量。首先需要明确目标，"
    "然后把任务拆成小块，分给合适的人去做；每周开一次会，看看哪里落后了，及时调整计划。如果遇到困难，"
    "不要隐瞒，尽早说出来，大家一起想办法解决。"
)
ENGLISH = (
    "Today we discuss how to finish this project on time and within a limited budget, without "
    "giving up on quality. First the goal has to be clear; then the work is cut into small pieces "
    "that fit the people who do them. Once a week we look at what is late and change the plan. "
    "Whoever meets a difficulty says so early, and we look for a way out together."
)


def tokens(text: str) -> list[str]:
    """Text as a model sends it: a word with its space, one or two Chinese characters, a mark."""
    out: list[str] = []
    for char in text:
        is_chinese = not char.isascii()
        last = out[-1] if out else ""
        grows = (
            len(last) == 1 and last.isalpha() and char.isalpha() and not last.isascii()
            if is_chinese
            else char.isalpha() and last.isascii() and last[-1:].isascii() and last[-1:] != "."
            and (last[-1:].isalpha() or last == " ")
        )  # fmt: skip
        if grows:
            out[-1] = last + char
        else:
            out.append(char)
    return out


def term_list(size: int, chance: random.Random) -> list[Term]:
    """Half Chinese, of the 3,755 most used characters (GB 2312, level 1); half words and pairs of
    words; none of them in the texts."""
    common = [bytes((row, cell)).decode("gb2312", "ignore")
              for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF)]  # fmt: skip
    common = [char for char in common if char]
    found: dict[str, Term] = {}
    while len(found) < size:
        if len(found) % 2:
            text = "".join(chance.choices(common, k=chance.randint(2, 6)))
        else:
            words = chance.choices((1, 2), (4, 1))[0]
            text = " ".join(
                "".join(chance.choices(string.ascii_lowercase, k=chance.randint(3, 9)))
                for _ in range(words)
            )
        if text not in CHINESE and text not in ENGLISH:
            found[text] = Term(text, "list", "bench", Action.BLOCK)
    return list(found.values())
