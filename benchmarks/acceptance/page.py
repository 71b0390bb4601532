"""The report of an acceptance, whole or not, as Markdown. Pure."""

from __future__ import annotations

from typing import Any

from benchmarks.acceptance.values import State

MARKS = {"done": "done", "failed": "FAILED", "stopped": "STOPPED", "todo": "not begun"}


def is_partial(state: State) -> bool:
    """Whether a step did not come to its end."""
    return any(step.status in ("todo", "stopped") for step in state.steps)


def report(state: State) -> str:
    """All that is known now."""
    asked = state.asked
    title = f"Acceptance of {asked.model} at {asked.url}"
    partial = "PARTIAL: stopped or out of time; the same command goes on where it stopped.\n\n"
    against = f", card `{asked.card}`" if asked.card else ", no card to hold it against"
    lines = [f"# {title}", "", (partial if is_partial(state) else "")
             + f"Scenario `{asked.scenario}`{against}. {state.spent_s:.0f} s in steps.", "",
             "| step | | seconds | |", "| --- | --- | --- | --- |"]  # fmt: skip
    for step in state.steps:
        words = step.words.replace("|", "/").replace("\n", " ")
        lines.append(f"| {step.name} | {MARKS[step.status]} | {step.seconds:.1f} | {words} |")
    found = state.steps[-1].found
    if found:
        lines += ["", *_money(found), *_compared(found["compared"])]
    return "\n".join(lines) + "\n"


def _money(found: dict[str, Any]) -> list[str]:
    currency = found["currency"]
    if not found["rent_cost"]:
        return ["What it cost is not known: no `--gpu-hour`."]
    steps = f"Cost: {found['steps_cost']:.2f} {currency} in steps; "
    rent = f"{found['rent_cost']:.2f} {currency} of rent in {found['rented_s'] / 60:.0f} minutes"
    lines = [f"{steps}{rent} since the first step began."]
    if found["per_mtok"] is not None:
        lines.append(f"At the rate held: {found['per_mtok']:.2f} {currency} for a million output "
                     "tokens, their prompts included.")  # fmt: skip
    return lines


def _compared(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = ["", "| ms | card | seen | seen against the card |", "| --- | --- | --- | --- |"]
    for row in rows:
        off = row["seen"] / row["card"] - 1 if row["card"] > 0 else 0.0
        lines.append(f"| {row['what']} | {row['card']:.2f} | {row['seen']:.2f} | {off:+.1%} |")
    return lines
