"""Numbers of persons: identity, phone, card, social security. Pure.

One pass finds runs of digits with single separators; what a run is, its length, its groups, its
checksum and the words before it say. A number that fits nothing is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from serving.guard.personal import checks
from serving.guard.personal.cues import Signs, matches
from serving.guard.values import Kind, Personal

_RUN = re.compile(r"\d+(?:(?:[ .\-]|\)[ \-]?| ?\()\d+)*", re.ASCII)
GLANCE = r"[0-9](?:[ .\-—()（）]{0,2}[0-9]){6}"
"""As many digits as the shortest number has, in a text that is not flat yet (see `personal`)."""
_GROUP = re.compile(r"\d+", re.ASCII)
_DIGITS_MIN, _DIGITS_MAX = 7, 19
_GROUPS_MAX = 6
"""Groups of one number; a run of more is several numbers or none."""
_BEFORE = 40
"""Characters before a number that may say what it is."""
_PHONE_CUE = re.compile(
    r"(?:tele|mobile|cell|\b)(?:phone|ph)\b|\b(?:tel|call|mobile|cell|fax|whatsapp|sms|contact"
    r"|reach|dial|hotline)\b|电话|手机|联系方式|座机|致电|拨打|微信|传真|号码",
    re.IGNORECASE | re.ASCII,
)
_SSN_CUE = re.compile(r"\bssn\b|social security|\btax(?:payer)? id", re.IGNORECASE | re.ASCII)
_PASSPORT_CUE = re.compile(r"passport|护照", re.IGNORECASE)
_UNITS = frozenset("元万亿个件条名人次吨米倍股点")
"""Behind a number they say that it is an amount."""
_OTHER = re.compile(
    r"(?:订单|单号|编号|流水|序列|序号|批次|快递|运单|工单|发票|版本|产品|型号|条码|端口|案号|"
    r"order|invoice|tracking|serial|ticket|sku|isbn|batch|ref(?:erence)?|item|part|build|case)"
    r"[^,，。;；\n]{0,12}\Z",
    re.IGNORECASE,
)
"""Words that say that the number behind them is no person's."""
_CARD_GROUPS = frozenset({(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 2), (4, 4, 4, 4, 1),
                          (4, 6, 5), (6, 13), (6, 10), (4, 6, 4)})  # fmt: skip
_IDENTITY_GROUPS = frozenset({(6, 8, 4), (6, 4, 4, 4), (6, 8, 3), (3, 3, 8, 4), (3, 3, 4, 4, 4),
                              (6, 4, 2, 2, 4), (6, 8, 3, 1)})  # fmt: skip
_MOBILE_GROUPS = frozenset({(11,), (3, 4, 4), (3, 8), (4, 3, 4), (5, 6), (7, 4)})
_COUNTRIES = re.compile(
    r"(?:1|20|21\d|22\d|23\d|24\d|25\d|26\d|27|29\d|3[0-469]|35\d|37\d|38\d|4[013-9]|42\d|5[1-8]"
    r"|50\d|59\d|6[0-6]|67\d|68\d|69\d|7|8[1246]|85\d|88\d|9[0-58]|96\d|97\d|99\d)",
).match
"""Country codes in use (ITU-T E.164 list)."""


class _Run(NamedTuple):
    """Neighbouring groups of digits, read as one number."""

    digits: str
    sizes: tuple[int, ...]
    joints: frozenset[str]
    """What stands between the groups."""
    before: str
    """The text before, as far as it matters."""
    after: str
    """The character behind, or nothing."""
    is_alone: bool
    """Whether no further group follows or precedes with a joint like those within."""

    @property
    def is_apart(self) -> bool:
        """Whether it is no part of a longer number, word or decimal."""
        last = self.before[-1:]
        is_joined = last.isascii() and (last.isalnum() or last in "_.#%$€£¥")
        return not (is_joined and last) and not (
            self.after.isascii() and (self.after.isalnum() or self.after in "_%") and self.after
        )


def find(text: str, signs: Signs) -> Iterator[Personal]:
    """Numbers of persons in flat text (`Folding.flatten`), in order and apart."""
    for found in matches(_RUN, text, signs.numbers):
        if found.end() - found.start() < _DIGITS_MIN:
            continue
        groups = [m.span() for m in _GROUP.finditer(text, found.start(), found.end())]
        sizes = [end - start for start, end in groups]
        at = 0
        while at < len(groups):
            for size in range(min(_GROUPS_MAX, len(groups) - at), 0, -1):
                if not _DIGITS_MIN <= sum(sizes[at : at + size]) <= _DIGITS_MAX:
                    continue
                personal = _read(text, groups[at : at + size])
                if personal is not None:
                    yield personal
                    at += size - 1
                    break
            at += 1


def _read(text: str, groups: Sequence[tuple[int, int]]) -> Personal | None:
    start, end = groups[0][0], groups[-1][1]
    digits = "".join(text[a:b] for a, b in groups)
    joints = frozenset(text[here[1] : there[0]] for here, there in pairwise(groups))
    before, after = text[max(0, start - _BEFORE) : start], text[end : end + 1]
    next_to = {
        mark
        for mark, other in ((before[-1:], before[-2:-1]), (after, text[end + 1 : end + 2]))
        if other.isdecimal()
    }
    run = _Run(
        digits,
        tuple(b - a for a, b in groups),
        joints,
        before,
        after,
        next_to.isdisjoint(joints | {"-"}),
    )
    if len(digits) == 17 and run.after in ("X", "x"):
        run = run._replace(digits=digits + run.after, after=text[end + 1 : end + 2])
        return _personal(Kind.IDENTITY, start, end + 1) if _is_identity(run) else None
    if not run.is_apart:
        return None
    kind = _kind(run)
    if kind is Kind.PHONE:
        start = _with_prefix(text, start)
    return _personal(kind, start, end) if kind is not None else None


def _personal(kind: Kind, start: int, end: int) -> Personal:
    return Personal(kind, start, end)


def _with_prefix(text: str, start: int) -> int:
    """Where a phone number starts with its plus or opening bracket."""
    while start and text[start - 1] in "+(":
        start -= 1
    return start


def _kind(run: _Run) -> Kind | None:
    digits, sizes = run.digits, run.sizes
    is_plain = len(sizes) == 1
    if len(digits) == 18 and _is_identity(run):
        return Kind.IDENTITY
    if (is_plain or sizes in _CARD_GROUPS) and checks.is_card(digits):
        return None if _OTHER.search(run.before) else Kind.BANK_CARD
    if is_plain and checks.is_old_identity(digits) and not _OTHER.search(run.before):
        return Kind.OLD_IDENTITY
    if len(digits) == 9 and checks.is_ssn(digits) and _is_ssn(run):
        return Kind.SSN
    if len(digits) == 9 and is_plain and _PASSPORT_CUE.search(run.before):
        return Kind.PASSPORT
    return Kind.PHONE if _is_phone(run) else None


def _is_identity(run: _Run) -> bool:
    is_grouped = len(run.sizes) == 1 or run.sizes in _IDENTITY_GROUPS
    return is_grouped and run.is_apart and checks.is_identity(run.digits)


def _is_ssn(run: _Run) -> bool:
    if run.sizes == (3, 2, 4) and run.joints == {"-"}:
        return run.is_alone and not _OTHER.search(run.before)
    return run.sizes in ((9,), (3, 2, 4)) and _SSN_CUE.search(run.before) is not None


def _is_phone(run: _Run) -> bool:
    digits, sizes, joints = run.digits, run.sizes, run.joints
    if run.after in _UNITS or _OTHER.search(run.before):
        return False
    if digits.startswith("0086"):
        digits, sizes = digits[2:], (sizes[0] - 2, *sizes[1:])
    if digits.startswith("86") and checks.is_mobile(digits[2:]) and sizes[0] in (2, 5, 13):
        return True
    if checks.is_mobile(digits) and sizes in _MOBILE_GROUPS:
        return True
    if run.before.endswith(("+", "+(")) or (digits.startswith("00") and sizes[0] > 1):
        return 8 <= len(digits.lstrip("0")) <= 15 and _COUNTRIES(digits.lstrip("0")) is not None
    if not run.is_alone:
        return False
    is_landline = digits[0] == "0" and sizes[0] in (3, 4) and sizes[1:] in ((7,), (8,), (4, 4))
    if is_landline and 10 <= len(digits) <= 12:
        return True
    if _is_american(run):
        return True
    has_cue = _PHONE_CUE.search(run.before[-30:]) is not None
    is_date = sizes[:3] == (4, 2, 2)
    return has_cue and 7 <= len(digits) <= 13 and "." not in joints and not is_date


def _is_american(run: _Run) -> bool:
    digits, sizes = run.digits, run.sizes
    if len(digits) == 11 and digits[0] == "1" and sizes[0] == 1:
        digits, sizes = digits[1:], sizes[1:]
    if sizes != (3, 3, 4) or not checks.is_american(digits) or digits.startswith("400"):
        return False
    if digits.startswith("800"):
        return _PHONE_CUE.search(run.before) is not None
    if run.before.endswith("(") or run.joints == {"-"}:
        return True
    return _PHONE_CUE.search(run.before) is not None
