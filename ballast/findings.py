"""What the doctor found, to the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from ballast import messages
from ballast.doctor import Finding, stops
from ballast.messages.chosen import spoken
from ballast.wide import pad


def show(findings: list[Finding]) -> None:
    """Print them; Chinese subjects are padded by their width."""
    console, language = Console(highlight=False), spoken()
    colours = {"ok": "green", "warn": "yellow", "stop": "red"}
    for subject, level, found, remedy in findings:
        said = messages.named("doctor.level", level, language)
        shown = pad(messages.named("doctor.subject", subject, language), 10)
        text = escape(messages.tell(found, language))
        console.print(f"[{colours[level]}]{said}[/]  {shown}  {text}", soft_wrap=True)
        if remedy:
            told = escape(messages.tell(remedy, language))
            console.print(f"                  -> {told}", soft_wrap=True)
    count = len(stops(findings))
    key = "doctor.count" if count else "doctor.none"
    console.print(messages.text(key, language, count=count))
