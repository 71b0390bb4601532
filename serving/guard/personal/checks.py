"""Checksums, ranges and dates that tell a number of a person from any other number. Pure.

Sources: GB 11643-1999 (PRC identity numbers, ISO 7064 MOD 11-2), GB/T 2260 (provinces), ISO/IEC
7812 (Luhn), ISO 13616 (IBAN), the US Social Security Administration's rule of 2011, the mainland's
mobile prefixes as assigned by the Ministry of Industry and Information Technology up to 2025.
"""

from __future__ import annotations

import re
from datetime import date

from serving.guard.personal.cues import words

_PROVINCES = words(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 "
    "71 81 82 83"
)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK = "10X98765432"
_BORN = range(1900, 2100)
"""Years that a birth date may have: a rule that needs no clock."""
_MOBILE = re.compile(r"1(?:3\d|4[014-9]|5[0-35-9]|6[2567]|7[0-8]|8\d|9[0-35-9])\d{8}").fullmatch
_CARDS = (
    (re.compile(r"62\d{14,17}").fullmatch, "UnionPay"),
    (re.compile(r"4\d{12}(?:\d{3})?").fullmatch, "Visa"),
    (re.compile(r"(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}").fullmatch,
     "Mastercard"),
    (re.compile(r"3[47]\d{13}").fullmatch, "American Express"),
    (re.compile(r"35(?:2[89]|[3-8]\d)\d{12}").fullmatch, "JCB"),
    (re.compile(r"6(?:011|4[4-9]\d|5\d{2})\d{12}").fullmatch, "Discover"),
    (re.compile(r"3(?:0[0-5]|[68]\d)\d{11}").fullmatch, "Diners Club"),
    (re.compile(r"(?:9558\d{15}|103\d{16}|4367\d{15}|4563\d{15}|6013\d{15}|6014\d{15})").fullmatch,
     "mainland debit, before UnionPay's own numbers"),
)  # fmt: skip
"""Lengths and first digits under which cards are issued: a Luhn digit alone fits a tenth of all
numbers."""
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28,
    "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24,
    "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24,
    "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
_SSN_VOID = frozenset({"078051120", "219099999", "457555462"})
"""Printed in advertisements and withdrawn."""


def _is_date(year: str, month: str, day: str) -> bool:
    try:
        return date(int(year), int(month), int(day)).year in _BORN
    except ValueError:
        return False


def is_identity(text: str) -> bool:
    """18 characters: province, birth date, order, check digit (0-9, X)."""
    if len(text) != 18 or text[:2] not in _PROVINCES:
        return False
    if not _is_date(text[6:10], text[10:12], text[12:14]):
        return False
    total = sum(int(d) * w for d, w in zip(text[:17], _WEIGHTS, strict=True))
    return _CHECK[total % 11] == text[17].upper()


def is_old_identity(text: str) -> bool:
    """15 digits: province and birth date of the 20th century; no checksum."""
    return (
        len(text) == 15
        and text[:2] in _PROVINCES
        and _is_date("19" + text[6:8], text[8:10], text[10:12])
    )


def is_mobile(digits: str) -> bool:
    """A mainland mobile number of 11 digits."""
    return _MOBILE(digits) is not None


def has_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before."""
    total = 0
    for at, digit in enumerate(map(int, reversed(digits))):
        doubled = digit * 2 if at % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """A payment card's number: issued range, length and check digit; not one digit repeated."""
    return (
        any(matches(digits) for matches, _ in _CARDS) and len(set(digits)) > 1 and has_luhn(digits)
    )


def is_ssn(digits: str) -> bool:
    """Nine digits that the Social Security Administration may have given out."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    is_given = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
    return len(digits) == 9 and is_given and digits not in _SSN_VOID


def is_iban(text: str) -> bool:
    """An international account number without spaces: country, length, MOD 97."""
    if _IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    moved = text[4:] + text[:4]
    return int("".join(str(int(char, 36)) for char in moved)) % 97 == 1


def is_american(digits: str) -> bool:
    """Ten digits of the North American plan, neither area nor exchange starting with 0 or 1."""
    return len(digits) == 10 and digits[0] > "1" and digits[3] > "1" and digits[1:3] != "11"
