"""English names and addresses, by rule. Pure.

A name needs a word before it that announces one; a street address its number, capitalised name and
kind of street. Written for the forms of the United States and Britain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.guard.personal.cues import Announced, Signs, matches, words
from serving.guard.values import Kind, Personal

_PART = r"(?:(?:Mc|Mac|O'|D'|De|Van |van |de |von )?[A-Z][a-z]+(?:-[A-Z][a-z]+)?)"
_END = r"(?![A-Za-z0-9\[(<])"
"""What goes on like this is a word of a program."""
_FULL = rf"{_PART}(?: [A-Z]\.)?(?: {_PART}){{0,3}}{_END}"
_TWO = rf"{_PART}(?: [A-Z]\.)?(?: {_PART}){{1,2}}{_END}"
_AFTER_STRONG = re.compile(rf"[ \t]*[\\\"']{{0,3}}(?P<name>{_FULL})")
_AFTER_TITLE = re.compile(rf"\.?[ \t](?P<name>{_FULL})")
_AFTER_MEMBER = re.compile(rf"[ \t]*[\\\"']{{0,3}}(?P<name>{_TWO})")
_AFTER_WEAK = re.compile(rf"\s+(?P<name>{_TWO})")
"""After words that announce much else: a name of two words or more."""
_STRONG = [
    "my name is", "my full name is", "my legal name is", "name:", "name :", "patient:", "contact:",
    "attn:", "attention:", "recipient:", "signed:", "beneficiary:", "applicant:", "employee:",
    "customer:", "tenant:", "cardholder:", "claimant:", "guest:", "passenger:",
]  # fmt: skip
_MEMBER = ["name=", 'name":', 'name\\":', "name':"]
"""Members of JSON and of forms name everything, not only people."""
_TITLE = ["Mr", "Mrs", "Ms", "Miss", "Dr", "Prof"]
_WEAK = ["i am", "i'm", "this is", "dear", "regards,", "sincerely,", "call me", "named"]
_FAMILY = [
    f"{whose} {who}"
    for whose in ("my", "our", "his", "her", "their")
    for who in (
        "husband", "wife", "son", "daughter", "father", "mother", "dad", "mom", "mum", "brother",
        "sister", "uncle", "aunt", "cousin", "grandmother", "grandfather", "grandma", "grandpa",
        "boyfriend", "girlfriend", "ex-boyfriend", "ex-girlfriend", "ex-husband", "ex-wife",
        "fiance", "nephew", "niece", "baby",
    )
]  # fmt: skip
_KNOWN = [
    "friend", "boss", "colleague", "coworker", "co-worker", "teammate", "neighbour", "neighbor",
    "roommate", "flatmate", "landlord", "landlady", "therapist", "doctor is", "classmate",
    "teacher", "manager", "named after",
]  # fmt: skip
"""What people do not call by one name alone where a rule could tell it from other words."""
_AFTER_FAMILY = re.compile(rf"(?:,|,? (?:is )?(?:named|called)|'s name is)?[ \t](?P<name>{_FULL})")
_AFTER_KNOWN = re.compile(rf"(?:,|,? (?:is )?(?:named|called))?[ \t](?P<name>{_TWO})")
CUES = {
    cue: Announced(Kind.NAME, pattern)
    for cues, pattern in (
        (_FAMILY, _AFTER_FAMILY), (_KNOWN, _AFTER_KNOWN), (_STRONG, _AFTER_STRONG),
        (_MEMBER, _AFTER_MEMBER), (_TITLE, _AFTER_TITLE), (_WEAK, _AFTER_WEAK),
    )
    for cue in cues
}  # fmt: skip
_NOT_NAMES = words(
    "Sir Madam Customer Team All Hiring Support Sales President Speaker User Friend Friends "
    "Unknown None Null True False String The This That Monday Tuesday Wednesday Thursday Friday "
    "Saturday Sunday January February March April May June July August September October "
    "November December New San Los United Great North South East West American British Chinese "
    "Senior Junior Chief Software Product Project Data Your First Last Full Valued Very Not Here "
    "Required Optional Version Chapter Section Google Microsoft Apple Amazon I It He She They We "
    "English Spanish French German Japanese Indian Minecraft Facebook Instagram Netflix Christmas "
    "Easter And But Is Has Was Will Said"
)
_STREET = re.compile(
    r"(?<![\w.])\d{1,5}[A-Z]?(?: (?:[NSEW]|North|South|East|West)\.?)?"
    r"(?: (?:[A-Z][a-z']+|\d{1,3}(?:st|nd|rd|th))){1,3} "
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Square"
    r"|Sq|Terrace|Crescent|Close|Parkway|Pkwy|Highway|Hwy|Circle|Cir)\b(?:\.(?=,| [A-Z0-9#]))?"
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|#)\.? ?[0-9A-Za-z\-]{1,6})?"
    r"(?:,? [A-Z][A-Za-z]+\b(?: [A-Z][A-Za-z]+\b){0,2})?"
    r"(?:,? (?:[A-Z]{2} \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z0-9]? \d[A-Z]{2}))?",
    re.ASCII,
)
_BOX = re.compile(
    r"\bP\.? ?O\.? Box \d{1,6}(?:, [A-Z][A-Za-z ]{2,24})?(?:, [A-Z]{2} \d{5})?", re.ASCII
)
_GLANCED = "(?:Mc|Mac|O'|D'|De|Van |van |de |von )?[A-Z][a-z]"
_TWO_GLANCED = rf"{_GLANCED}[a-z]*(?:[-—][A-Z][a-z]+)?(?: [A-Z]\.)? {_GLANCED}"
_GLANCED_AFTER = (
    (_FAMILY, rf"(?:[,，]|[,，]? (?:is )?(?:named|called)|'s name is)?[ \t]{_GLANCED}"),
    (_KNOWN, rf"(?:[,，]|[,，]? (?:is )?(?:named|called))?[ \t]{_TWO_GLANCED}"),
    (_STRONG, rf"[ \t]*[\\\"']{{0,3}}{_GLANCED}"),
    (_MEMBER, rf"[ \t]*[\\\"']{{0,3}}{_TWO_GLANCED}"),
    (_TITLE, rf"\.?[ \t]{_GLANCED}"),
    (_WEAK, rf"[ \t\r\n]+{_TWO_GLANCED}"),
)
_AS_WRITTEN = str.maketrans({"\\": r"\\", ":": "[:：]", ",": "[,，]", "-": "[-—]"})
GLANCE = "|".join([
    *(f"(?i:{'|'.join(cues).translate(_AS_WRITTEN)}){after}" for cues, after in _GLANCED_AFTER),
    (r"[0-9][A-Z]?(?: (?:[NSEW]|North|South|East|West)\.?)?"
    r"(?: (?:[A-Z][a-z']+|[0-9]{1,3}(?:st|nd|rd|th))){1,3} "
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Square"
    r"|Sq|Terrace|Crescent|Close|Parkway|Pkwy|Highway|Hwy|Circle|Cir)"),
    r"P\.? ?O\.? Box [0-9]",
])  # fmt: skip
"""Where a rule here may find something in a text that is not flat yet (see `personal`)."""


def find(text: str, signs: Signs) -> Iterator[Personal]:
    """Names and addresses in flat text; may overlap."""
    for end, (kind, pattern) in signs.cues:
        if kind is not Kind.NAME:
            continue
        name = pattern.match(text, end)
        if name is not None and name["name"].split(" ", 1)[0] not in _NOT_NAMES:
            yield Personal(Kind.NAME, *name.span("name"))
    for found in matches(_STREET, text, signs.numbers):
        yield Personal(Kind.ADDRESS, *found.span())
    if "Box" in text:
        for found in _BOX.finditer(text):
            yield Personal(Kind.ADDRESS, *found.span())
