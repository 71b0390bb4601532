"""Why a rollout cannot be started, paused or closed: sentences with their code and values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.worded import Worded
from serving.rollout.values import Rollout
from serving.rollout.words import state

BUSY: Final[str] = Worded("rollout.busy", "other plans are being worked out: ask again")
KEY_UNKNOWN: Final[str] = Worded("rollout.key_unknown", "this gateway does not know the key")


def under_way(had: Rollout) -> str:
    """Another is not over."""
    template = "{name} is on its way from {old} to {new} ({percent} %): abort that first"
    return Worded(
        "rollout.under_way", template, name=repr(had.id), old=repr(had.old), new=repr(had.new),
        percent=had.percent,
    )  # fmt: skip


def means(had: Rollout, old: str) -> str:
    """The last one made the name mean something else."""
    template = "{name} means {new} since its last rollout, not {old}"
    return Worded(
        "rollout.means", template, name=repr(had.id), new=repr(had.new), old=repr(old)
    )  # fmt: skip


def means_now(name: str, now: str, old: str) -> str:
    """Whoever asks believes it means something else."""
    template = "{name} means {now} now, not {old}"
    return Worded("rollout.means_now", template, name=repr(name), now=repr(now), old=repr(old))


def is_now(row: Rollout) -> str:
    """The verb is for another state."""
    template = "the rollout of {name} is {state}"
    return Worded("rollout.of_is", template, name=repr(row.id), state=state(row.state))


def is_already(row: Rollout) -> str:
    """It is over."""
    template = "the rollout of {name} is {state} already"
    return Worded("rollout.of_is_already", template, name=repr(row.id), state=state(row.state))


def abort_first(row: Rollout) -> str:
    """It is not over."""
    template = "the rollout of {name} is {state}: abort it first"
    return Worded("rollout.abort_first", template, name=repr(row.id), state=state(row.state))


def still_given(row: Rollout, meant: str) -> str:
    """Without the row the name would jump back."""
    template = "the settings still give {name} to {meant}: name {new} there first"
    return Worded(
        "rollout.still_given", template, name=repr(row.id), meant=repr(meant), new=repr(row.new)
    )  # fmt: skip


def no_name(name: str) -> str:
    """Nothing is called so."""
    return Worded("rollout.no_name", "no model or alias {name}", name=repr(name))


def no_model(name: str, known: Sequence[str]) -> str:
    """This gateway's settings hold none."""
    template = "no model {name} here; known: {known}. Add it to the settings first"
    return Worded("rollout.no_model", template, name=repr(name), known=list(known))


def serves_less(old: str, new: str, lacking: Sequence[str]) -> str:
    """Calls would be refused."""
    template = "{new} does not serve {lacking}, which {old} does"
    return Worded(
        "rollout.serves_less", template, new=repr(new), lacking=list(lacking), old=repr(old)
    )  # fmt: skip


def vectors(old: str) -> str:
    """A collection holds one model's."""
    template = "{old} gives vectors or scores: those of another model cannot be mixed in"
    return Worded("rollout.vectors", template, old=repr(old))
