"""Judges a PoC: each condition met, not met or not proved, and what the answer rests on. Pure."""

from __future__ import annotations

import msgspec

from ballast.poc_values import (
    EFFORT_SHARE_MAX,
    GAIN_MONTHS,
    LATENCY_SLACK,
    LENGTHS_ALIKE,
    OK_SHARE_MIN,
    REQUESTS_MIN,
    SAVING_WANTED,
    Answer,
    Basis,
    Gate,
    Trial,
)


def saving(trial: Trial) -> float | None:
    """Share of the API's price that the local side saves: on the very tokens that it worked on
    where that can be told, for answers differ in length; else on a million tokens of each."""
    own = trial.local
    if own is not None and own.at_api_price is not None:
        return (
            None if own.cost is None or own.at_api_price <= 0 else 1 - own.cost / own.at_api_price
        )
    api = trial.api.per_mtok if trial.api else None
    local = trial.local.per_mtok if trial.local else None
    return None if api is None or local is None or api <= 0 else 1 - local / api


def gain(trial: Trial) -> float | None:
    """Money saved in a year at the pace seen or stated, running costs taken off."""
    share, tokens = saving(trial), trial.tokens
    if share is None or tokens is None or trial.api is None:
        return None
    price = trial.api.per_mtok
    if price is None:
        return None
    return (share * price * tokens / 1e6 - trial.effort.monthly) * GAIN_MONTHS


def longer(trial: Trial) -> float | None:
    """By which share own answers are longer than the API's on average, where that is enough to
    keep whole answers from being compared; None: they are alike, or nothing is known."""
    api, own = trial.api, trial.local
    if api is None or own is None or not (api.ok and own.ok and api.completion_tokens):
        return None
    share = own.completion_tokens / own.ok / (api.completion_tokens / api.ok) - 1
    return share if abs(share) > LENGTHS_ALIKE else None


def gates(trial: Trial) -> list[Gate]:
    """Each condition in the order a manager asks."""
    found = [_cost(trial), _latency(trial), _stability(trial), _compatibility(trial),
             _effort(trial), _exit(trial)]  # fmt: skip
    return [
        gate if gate.answer == "unknown"
        else msgspec.structs.replace(gate, rests_on=_rests_on(gate, trial))
        for gate in found
    ]  # fmt: skip


def _rests_on(gate: Gate, trial: Trial) -> tuple[Basis, ...]:
    """A run's rent is a flag's word; a year's gain needs the tokens of a month as well."""
    if gate.id == "exit":
        return ("export",)
    found: list[Basis] = [trial.basis]
    if gate.id in ("cost", "effort") and trial.basis == "runs":
        found.append("given")
    if gate.id == "effort":
        found += ["stated" if trial.monthly_tokens is None else "ledger", trial.effort.basis]
    return tuple(dict.fromkeys(found))


def _lack(trial: Trial) -> str:
    """What keeps the two sides from being compared at all; empty if nothing does."""
    if trial.simulated:
        return "real"
    if trial.api is None or trial.api.requests < REQUESTS_MIN:
        return "api"
    if trial.local is None or trial.local.requests < REQUESTS_MIN:
        return "local"
    return ""


def _cost(trial: Trial) -> Gate:
    if lack := _lack(trial):
        return Gate("cost", "unknown", {}, lack)
    share = saving(trial)
    if share is None:
        return Gate("cost", "unknown", {}, "rent")
    return Gate("cost", _said(share >= SAVING_WANTED), {"saving": share})


def _latency(trial: Trial) -> Gate:
    if lack := _lack(trial):
        return Gate("latency", "unknown", {}, lack)
    assert trial.api is not None, "nothing lacks"
    assert trial.local is not None, "nothing lacks"
    api, local = trial.api.first_token.p95_ms, trial.local.first_token.p95_ms
    if api is None or local is None:
        return Gate("latency", "unknown", {}, "times")
    return Gate("latency", _said(local <= api * LATENCY_SLACK), {"api": api, "local": local})


def _stability(trial: Trial) -> Gate:
    if lack := _lack(trial):
        return Gate("stability", "unknown", {}, lack)
    share = trial.local.ok_share if trial.local else None
    if share is None:
        return Gate("stability", "unknown", {}, "local")
    return Gate("stability", _said(share >= OK_SHARE_MIN), {"share": share})


def _compatibility(trial: Trial) -> Gate:
    tried = [one for one in trial.works if one.requests]
    if trial.simulated:
        return Gate("compatibility", "unknown", {}, "real")
    if sum(one.requests for one in tried) < REQUESTS_MIN:
        return Gate("compatibility", "unknown", {}, "surfaces")
    worst = min(one.ok / one.requests for one in tried)
    return Gate("compatibility", _said(worst >= OK_SHARE_MIN), {"worst": worst})


def _effort(trial: Trial) -> Gate:
    yearly = gain(trial)
    if lack := _lack(trial):
        return Gate("effort", "unknown", {"effort": trial.effort.cost}, lack)
    if yearly is None:
        lack = "rent" if saving(trial) is None else "tokens"
        return Gate("effort", "unknown", {"effort": trial.effort.cost}, lack)
    is_worth = yearly > 0 and trial.effort.cost < EFFORT_SHARE_MAX * yearly
    return Gate("effort", _said(is_worth), {"effort": trial.effort.cost, "gain": yearly})


def _exit(trial: Trial) -> Gate:
    """All data leaves, counted against its manifest, or it is not proved."""
    if trial.exit_faults is None:
        return Gate("exit", "unknown", {}, "export")
    figures: dict[str, float] = {"rows": trial.exit_rows, "faults": trial.exit_faults}
    return Gate("exit", _said(not trial.exit_faults), figures)


def verdict(found: list[Gate]) -> Answer:
    """All conditions together."""
    answers = {one.answer for one in found}
    return "no" if "no" in answers else "unknown" if "unknown" in answers else "yes"


def _said(is_so: bool) -> Answer:
    return "yes" if is_so else "no"
