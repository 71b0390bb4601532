"""Why a rollout goes on, waits or goes back: sentences with their code and numbers, told in either
language by whoever shows them; in logs and in the history they are English. Pure.
"""

from __future__ import annotations

from typing import Final

from models.worded import Worded

DONE: Final[str] = Worded("rollout.is_done", "it is done")
STARTED: Final[str] = Worded("rollout.started", "started")
NO_ENGINE_YET: Final[str] = Worded("rollout.no_engine_yet", "waits for an engine of the new model")
NO_ENGINE_MOVED: Final[str] = Worded(
    "rollout.no_engine_moved", "no engine of the new model by the deadline; nothing was moved"
)
NO_ENGINE_CAME: Final[str] = Worded(
    "rollout.no_engine_came", "no engine of the new model by the deadline"
)
NO_ENGINE_LEFT: Final[str] = Worded("rollout.no_engine_left", "no engine of the new model is left")
IN_THE_GAP: Final[str] = Worded(
    "rollout.in_the_gap", "waits for the new model's engine; third parties carry the gap"
)
WAITS_FOR_GATE: Final[str] = Worded("rollout.waits_gate", "waits for the gate")
WAITS_FOR_ANSWER: Final[str] = Worded("rollout.waits_answer", "waits for the gate's answer")
NEWER: Final[str] = Worded(
    "rollout.newer_moves", "a newer Ballast wrote it: a controller of that version moves it on"
)
NO_GATEWAY: Final[str] = Worded("rollout.no_gateway", "no gateway is known")
_STATES: Final[dict[str, str]] = {
    "running": Worded("rollout.running", "running"),
    "paused": Worded("rollout.paused", "paused"),
    "done": Worded("rollout.done", "done"),
    "rolled_back": Worded("rollout.rolled_back", "rolled_back"),
    "aborted": Worded("rollout.aborted", "aborted"),
}
ERRORS: Final[str] = Worded("rollout.errors", "errors")
LATE: Final[str] = Worded("rollout.late", "a late first token")
REJECTED: Final[str] = Worded("rollout.rejected", "answers of 4xx")


def state(name: str) -> str:
    """A state, to stand in another sentence."""
    return _STATES.get(name, name)


def is_now(name: str) -> str:
    """It is in a state in which nothing comes next."""
    return Worded("rollout.is_now", "it is {state}", state=state(name))


def unknown(why: str, *, is_over: bool) -> str:
    """What could not be seen."""
    if is_over:
        template = "nothing is known at the step's deadline: {why}"
        return Worded("rollout.unknown_over", template, why=why)
    return Worded("rollout.unknown", "nothing is known: {why}", why=why)


def hard(errors: int, calls: int, bound: float) -> str:
    """So many errors that nothing is compared."""
    template = "errors in {errors} of {calls} calls: above the hard bound of {bound}"
    return Worded("rollout.hard", template, errors=errors, calls=calls, bound=f"{bound:.0%}")


def burn(what: str, found: tuple[int, int], was: float, most: float) -> str:
    """More than by chance. `found`: so many, of so many calls."""
    count, calls = found
    template = "{what} in {count} of {calls} calls ({share}); the old model {was}, allowed {most}"
    return Worded(
        "rollout.burn", template, what=what, count=count, calls=calls,
        share=f"{count / calls:.1%}", was=f"{was:.1%}", most=f"{most:.1%}",
    )  # fmt: skip


def refused_by_gate(why: str) -> str:
    """What the gate said."""
    return Worded("rollout.gate_no", "the gate said no: {why}", why=why)


def begins(engines: int) -> str:
    """The first step."""
    template = "engines of the new model: {engines}; the gate said yes"
    return Worded("rollout.begins", template, engines=engines)


def arrived(engines: int) -> str:
    """In place."""
    return Worded("rollout.arrived", "engines of the new model: {engines}", engines=engines)


def calls_seen(calls: int, least: int) -> str:
    """Too few."""
    return Worded("rollout.calls_seen", "{calls} of {least} calls seen", calls=calls, least=least)


def time_seen(in_step_s: float, hold_s: float) -> str:
    """Too short."""
    return Worded("rollout.time_seen", "{seconds} of {hold} s at this weight",
                  seconds=f"{in_step_s:.0f}", hold=f"{hold_s:.0f}")  # fmt: skip


def passed(calls: int, errors: int, late: int) -> str:
    """What the step has shown."""
    template = "{calls} calls, {errors} with errors, {late} late"
    return Worded("rollout.passed", template, calls=calls, errors=errors, late=late)


def lost(sent: float, ended: int) -> str:
    """Calls that hang."""
    template = "about {sent} calls were its own and {ended} have ended"
    return Worded("rollout.lost", template, sent=f"{sent:.0f}", ended=ended)


def expired(missing: str) -> str:
    """What the step lacked when its time was over."""
    return Worded("rollout.expired", "at the step's deadline: {missing}", missing=missing)


def by_hand(verb: str, actor: str, why: str) -> str:
    """What a person did. `verb`: paused, resumed or aborted."""
    reason = Worded("rollout.because", ": {why}", why=why) if why else ""
    if verb == "paused":
        return Worded("rollout.paused_by", "paused by {actor}{why}", actor=actor, why=reason)
    if verb == "resumed":
        return Worded("rollout.resumed_by", "resumed by {actor}{why}", actor=actor, why=reason)
    assert verb == "aborted"
    return Worded("rollout.aborted_by", "aborted by {actor}{why}", actor=actor, why=reason)


def older_gateway(url: str, model: str) -> str:
    """One gateway has other settings."""
    template = "{url} does not know model {model}: its settings are older"
    return Worded("rollout.older_gateway", template, url=url, model=repr(model))
