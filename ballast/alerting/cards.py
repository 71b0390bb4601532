"""Alerts as the cards of three group robots. Pure.

Alertmanager's webhook, version 4 (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config)
in; the robots' JSON out. Feishu: interactive card
(https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot), DingTalk: `actionCard`
(https://open.dingtalk.com/document/robots/custom-robot-access), WeCom: `markdown`
(https://developer.work.weixin.qq.com/document/path/91770).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec

ALERTS_MAX = 10
"""Of one group that a card lists; the rest is a number."""
TEXT_MAX = 300
"""Characters of one annotation."""
WECOM_BYTES_MAX = 4096
"""Of its markdown, UTF-8."""
Kind = Literal["feishu", "dingtalk", "wecom"]
Language = Literal["zh", "en"]


class Alert(msgspec.Struct, frozen=True):
    """One alert of a group."""

    status: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    fingerprint: str = ""


class Group(msgspec.Struct, frozen=True, rename="camel"):
    """What Alertmanager posts."""

    status: str
    group_key: str
    alerts: tuple[Alert, ...]
    external_url: str = msgspec.field(default="", name="externalURL")
    common_labels: dict[str, str] = {}


class Card(msgspec.Struct, frozen=True):
    """A group in words."""

    title: str
    lines: tuple[str, ...]
    severity: str
    """`page`, `ticket`, `note` or `resolved`."""
    silence_url: str
    silence: str
    """The link's words."""


_WORDS = {
    "zh": {"firing": "告警", "resolved": "已恢复", "page": "立即处理", "ticket": "今日处理",
           "note": "本周查看", "do": "处理：", "more": "另有 {} 条", "silence": "静默此告警"},
    "en": {"firing": "Alert", "resolved": "Resolved", "page": "now", "ticket": "today",
           "note": "this week", "do": "Do: ", "more": "{} more", "silence": "Silence this alert"},
}  # fmt: skip
_INERT = str.maketrans({"<": "‹", ">": "›", "[": "［", "]": "］", "*": "∗", "`": "'"})
"""Marks that would draw links or mentions."""
_RANK = ("page", "ticket", "note")
_COLOURS = {"page": "red", "ticket": "orange", "note": "blue", "resolved": "green"}


def card(group: Group, language: Language) -> Card:
    """The group in words: what is wrong, what to do, where to silence it."""
    words = _WORDS[language]
    is_over = group.status == "resolved"
    severities = [a.labels.get("severity", "note") for a in group.alerts]
    worst = min(severities, key=_rank, default="note")
    name = _flat(group.common_labels.get("alertname") or _first_name(group.alerts))
    state = words["resolved" if is_over else "firing"]
    urgency = "" if is_over else f" ({words.get(worst, worst)})"
    lines: list[str] = []
    for alert in group.alerts[:ALERTS_MAX]:
        lines.append(_flat(alert.annotations.get("summary") or _labels(alert)))
        if not is_over and (action := alert.annotations.get("action")):
            lines.append(words["do"] + _flat(action))
    if len(group.alerts) > ALERTS_MAX:
        lines.append(words["more"].format(len(group.alerts) - ALERTS_MAX))
    severity = "resolved" if is_over else worst
    return Card(
        f"{state}{urgency}: {name}", tuple(lines), severity, _silence_url(group), words["silence"]
    )


def payload(kind: Kind, told: Card) -> dict[str, Any]:
    """The robot's JSON body."""
    return {"feishu": _feishu, "dingtalk": _dingtalk, "wecom": _wecom}[kind](told)


def _rank(severity: str) -> int:
    return _RANK.index(severity) if severity in _RANK else len(_RANK)


def _first_name(alerts: Sequence[Alert]) -> str:
    return alerts[0].labels.get("alertname", "?") if alerts else "?"


def _flat(text: str) -> str:
    """One line, bounded: labels come from what is monitored and must not draw a card of their
    own."""
    cleaned = "".join(c if c.isprintable() else " " for c in text[:TEXT_MAX])
    return cleaned.translate(_INERT)


def _labels(alert: Alert) -> str:
    return ", ".join(f"{k}={v}" for k, v in sorted(alert.labels.items()))


def _silence_url(group: Group) -> str:
    """Alertmanager's own form, filled in with what the whole group has in common."""
    base = group.external_url
    if not base.startswith(("http://", "https://")):
        return ""
    matchers = ",".join(f'{k}="{v}"' for k, v in sorted(group.common_labels.items()))
    return f"{base.rstrip('/')}/#/silences/new?" + urlencode({"filter": "{" + matchers + "}"})


def _feishu(told: Card) -> dict[str, Any]:
    elements: list[dict[str, Any]] = [
        {"tag": "div", "text": {"tag": "plain_text", "content": line}} for line in told.lines
    ]
    if told.silence_url:
        button = {"tag": "button", "text": {"tag": "plain_text", "content": told.silence},
                  "url": told.silence_url, "type": "default"}  # fmt: skip
        elements.append({"tag": "action", "actions": [button]})
    header = {"title": {"tag": "plain_text", "content": told.title},
              "template": _COLOURS.get(told.severity, "grey")}  # fmt: skip
    return {"msg_type": "interactive", "card": {"header": header, "elements": elements}}


def _dingtalk(told: Card) -> dict[str, Any]:
    text = "\n\n".join((f"### {told.title}", *told.lines))
    if not told.silence_url:
        return {"msgtype": "markdown", "markdown": {"title": told.title, "text": text}}
    inner = {"title": told.title, "text": text, "singleTitle": told.silence,
             "singleURL": told.silence_url}  # fmt: skip
    return {"msgtype": "actionCard", "actionCard": inner}


def _wecom(told: Card) -> dict[str, Any]:
    link = f"\n[{told.silence}]({told.silence_url})" if told.silence_url else ""
    room = WECOM_BYTES_MAX - len(link.encode())
    text = "\n".join((f"**{told.title}**", *(f"> {line}" for line in told.lines)))
    kept = text.encode()[:room].decode(errors="ignore")
    return {"msgtype": "markdown", "markdown": {"content": kept + link}}
