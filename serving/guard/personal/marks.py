"""Personal data that a sign or a word gives away: e-mail, IBAN, passports, and machines' secrets.
Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.guard.personal import checks
from serving.guard.personal.cues import Announced, Signs, matches
from serving.guard.values import Kind, Personal

_LOCAL_MAX = 64
"""Characters before the @, by RFC 5321."""
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]+\Z")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
_FILES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ico"})
"""`logo@2x.png` is a file."""
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"
)
_PASSPORT = re.compile(
    r"(?<![A-Za-z0-9])(?:[EGDSPHCW]\d{8}|E[A-HJ-NP-Z]\d{7}|[A-Z]{1,2}\d{6,8}|\d{2}[A-Z]{2}\d{5})"
    r"(?![A-Za-z0-9])"
)
_PASSPORT_NEAR = 30
_CREDENTIAL = re.compile(
    r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----(?:[\s\S]{0,8192}?-----END (?:[A-Z]+ )?PRIVATE KEY"
    r"-----)?"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bLTAI[0-9A-Za-z]{12,20}\b|\bAKID[0-9A-Za-z]{32}\b"
    r"|\bgh[pousr]_[0-9A-Za-z]{36,}|\bsk-[0-9A-Za-z_\-]{20,}|\bxox[abprs]-[0-9A-Za-z\-]{10,}"
    r"|\bAIza[0-9A-Za-z_\-]{35}|\beyJ[0-9A-Za-z_\-]{8,}\.eyJ[0-9A-Za-z_\-]{8,}\.[0-9A-Za-z_\-]{8,}",
    re.ASCII,
)
_CREDENTIAL_SIGNS = (
    "PRIVATE KEY", "AKIA", "ASIA", "LTAI", "AKID", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "sk-",
    "xox", "AIza", "eyJ",
)  # fmt: skip
_PASSWORD = re.compile(r"\s*(?:[:：=是为]|is\b)\s*[\"'“]?([!-~]{6,64})")
CUES = {
    **dict.fromkeys(["passport", "护照", "通行证"], Announced(Kind.PASSPORT, _PASSPORT)),
    **dict.fromkeys(["password", "passwd", "pwd", "密码", "口令"],
                    Announced(Kind.CREDENTIAL, _PASSWORD)),
    **dict.fromkeys(_CREDENTIAL_SIGNS, Announced(Kind.CREDENTIAL, _CREDENTIAL)),
}  # fmt: skip
GLANCE = "|".join([
    "@[A-Za-z0-9]",
    "[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2}",
    "(?i:passport)|护照|通行证",
    (r"(?:(?i:password|passwd|pwd)|密码|口令)[ \t\r\n]*(?:[:：=是为]|is)[ \t\r\n]*[\"'“]?"
     r"[!-~，：；？！（）～—]{6}"),
    r"PRIVATE KEY|(?-u:\b)(?:(?:AKIA|ASIA|LTAI|AKID)[0-9A-Za-z]{6}|gh[pousr]_[0-9A-Za-z]{6}",
    r"sk[-—][0-9A-Za-z_\-—]{4}|xox[abprs][-—]|AIza[0-9A-Za-z_\-—]{6}|eyJ[0-9A-Za-z_\-—]{6})",
])  # fmt: skip
"""Where a rule here may find something in a text that is not flat yet (see `personal`)."""
_NOT_PASSWORDS = re.compile(r"[a-z]+[.,;!?)\"']*\Z|.*[(\[<{$*]", re.IGNORECASE)
"""Plain words, calls and templates are no passwords."""


def find(text: str, signs: Signs) -> Iterator[Personal]:
    """What flat text holds of it; may overlap."""
    if "@" in text:
        yield from _emails(text)
    countries = [at - 2 for at in signs.numbers if at > 1 and "A" <= text[at - 1] <= "Z"]
    for found in matches(_IBAN, text, countries):
        if checks.is_iban(found[0].replace(" ", "")):
            yield Personal(Kind.IBAN, *found.span())
    for end, (_, pattern) in signs.cues:
        if pattern is _PASSPORT:
            near = _PASSPORT.search(text, end, end + _PASSPORT_NEAR)
            if near is not None:
                yield Personal(Kind.PASSPORT, *near.span())
        elif (
            pattern is _PASSWORD
            and (given := _PASSWORD.match(text, end))
            and not _NOT_PASSWORDS.match(given[1])
        ):
            end = given.start(1) + len(given[1].rstrip(",.;\"'"))
            yield Personal(Kind.CREDENTIAL, given.start(1), end)
    if any(pattern is _CREDENTIAL for _, (_, pattern) in signs.cues):
        for found in _CREDENTIAL.finditer(text):
            yield Personal(Kind.CREDENTIAL, *found.span())


def _emails(text: str) -> Iterator[Personal]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(0, at - _LOCAL_MAX), at)
        domain = _DOMAIN.match(text, at + 1)
        if local is not None and domain is not None:
            start = local.start() + len(local[0]) - len(local[0].lstrip(".'`/=?&"))
            is_file = domain[0].rpartition(".")[2].lower() in _FILES
            if start < at and not is_file:
                yield Personal(Kind.EMAIL, start, domain.end())
        at = text.find("@", at + 1)
