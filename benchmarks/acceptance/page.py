"""The report of an acceptance, whole or not, as Markdown in the reader's language. Pure."""

from __future__ import annotations

from typing import Any

from benchmarks.acceptance.values import State, Step
from benchmarks.load.wording import Language
from benchmarks.telling import tell
from models.worded import Worded, unpacked

MARKS = {
    "done": Worded("mark.done", "done"),
    "failed": Worded("mark.failed", "FAILED"),
    "stopped": Worded("mark.stopped", "STOPPED"),
    "todo": Worded("mark.todo", "not begun"),
}


def is_partial(state: State) -> bool:
    """Whether a step did not come to its end."""
    return any(step.status in ("todo", "stopped") for step in state.steps)


def words(step: Step, language: Language) -> str:
    """What came of a step."""
    return tell(unpacked(step.said, step.words), language)


def report(state: State, language: Language = "en") -> str:
    """All that is known now."""
    asked, lines = state.asked, [f"# {tell(_title(state), language)}", ""]
    if is_partial(state):
        template = "PARTIAL: stopped or out of time; the same command goes on where it stopped."
        lines += [tell(Worded("page.partial", template), language), ""]
    against: str = Worded("page.no_card", "no card to hold it against")
    if asked.card:
        against = Worded("page.card", "card `{card}`", card=asked.card)
    template = "Scenario `{scenario}`, {against}. {seconds} s in steps."
    lines += [
        tell(Worded("page.head", template, scenario=asked.scenario, against=against,
                    seconds=f"{state.spent_s:.0f}"), language),
        "", tell(Worded("page.steps", "| step | | seconds | |"), language),
        "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for step in state.steps:
        told = words(step, language).replace("|", "/").replace("\n", " ")
        mark = tell(MARKS[step.status], language)
        lines.append(f"| {step.name} | {mark} | {step.seconds:.1f} | {told} |")
    found = state.steps[-1].found
    if found:
        lines += ["", *(tell(line, language) for line in _money(found))]
        lines += _compared(found["compared"], language)
    return "\n".join(lines) + "\n"


def _title(state: State) -> Worded:
    asked = state.asked
    return Worded("page.title", "Acceptance of {model} at {url}", model=asked.model, url=asked.url)


def _money(found: dict[str, Any]) -> list[str]:
    currency = found["currency"]
    if not found["rent_cost"]:
        return [Worded("page.no_cost", "What it cost is not known: no `--gpu-hour`.")]
    template = (
        "Cost: {steps} {currency} in steps; {rent} {currency} of rent in {minutes} minutes since "
        "the first step began."
    )
    lines: list[str] = [
        Worded("page.cost", template, steps=f"{found['steps_cost']:.2f}", currency=currency,
               rent=f"{found['rent_cost']:.2f}", minutes=f"{found['rented_s'] / 60:.0f}")
    ]  # fmt: skip
    if found["per_mtok"] is not None:
        template = (
            "At the rate held: {cost} {currency} for a million output tokens, their prompts "
            "included."
        )
        lines.append(Worded("page.per_mtok", template, cost=f"{found['per_mtok']:.2f}",
                            currency=currency))  # fmt: skip
    return lines


def _compared(rows: list[dict[str, Any]], language: Language) -> list[str]:
    if not rows:
        return []
    head = Worded("page.compared", "| ms | card | seen | seen against the card |")
    lines = ["", tell(head, language), "| --- | --- | --- | --- |"]
    for row in rows:
        off = row["seen"] / row["card"] - 1 if row["card"] > 0 else 0.0
        what = tell(unpacked(row.get("said"), row["what"]), language)
        lines.append(f"| {what} | {row['card']:.2f} | {row['seen']:.2f} | {off:+.1%} |")
    return lines
