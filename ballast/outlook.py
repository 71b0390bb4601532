"""Who could answer a call with these settings, and whose calls nobody could. Pure.

Judges what can be known before the start: engines to come, offerings, keys, residency. Whether they
are well is the gateway's to find out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from ballast.doctor import Finding, Level
from serving.records import Caller, Offering, Overflow
from serving.settings import Model, Settings
from serving.settings_engines import Pool

NAMES_MAX = 5
OURS = (Overflow.ALLOWED, Overflow.OWN_KEYS_FIRST)
"""Modes of keys whose calls may leave with our accounts."""
SUBJECT = "answers"


class Terms(NamedTuple):
    """What the gateway made of the settings."""

    sold: Mapping[str, tuple[Offering, ...]]
    """Offerings by model."""
    callers: Sequence[Caller]
    """Keys that are valid."""


def outlook(
    settings: Settings, terms: Terms, unused_keys: Mapping[str, str] | None = None
) -> list[Finding]:
    """A warning for each model and tenant that nothing could answer; one OK finding if all is well.

    `unused_keys`: providers that are not switched on, by the variable that holds their key here.
    """
    if not terms.callers:
        text = "no key is valid: every call is refused with 401"
        return [Finding(SUBJECT, Level.WARN, text, f"add keys to {settings.keys_file}")]
    found = [
        finding
        for model in settings.models
        for finding in _judge(settings, model, terms, unused_keys or {})
    ]
    names = ", ".join(model.name for model in settings.models)
    return found or [Finding(SUBJECT, Level.OK, f"something can answer calls of {names}")]


def _judge(
    settings: Settings, model: Model, terms: Terms, unused_keys: Mapping[str, str]
) -> Iterator[Finding]:
    sold = terms.sold.get(model.name, ())
    callers = [c for c in terms.callers if c.policy.models is None or model.name in c.policy.models]
    pools = _pools(settings, model) if _has_own(settings, model) else []
    mute = [c for c in callers if not _admitted(c, pools) and not _buys(c, sold)]
    if not callers:
        text = f"no key may call {model.name}"
        yield Finding(SUBJECT, Level.WARN, text, "name it in `models` of a key")
    elif len(mute) == len(callers):
        why, remedy = _reason(settings, mute, sold, pools=pools, unused_keys=unused_keys)
        text = f"nothing can answer calls of {model.name}: {why}"
        yield Finding(SUBJECT, Level.WARN, text, remedy)
    elif mute:
        why, remedy = _reason(settings, mute, sold, pools=pools, unused_keys=unused_keys)
        text = f"nothing can answer {_keys(mute)} calling {model.name}: {why}"
        yield Finding(SUBJECT, Level.WARN, text, remedy)
    elif sold and not any(_buys(caller, sold) for caller in callers):
        why, remedy = _cannot_buy(callers, sold)
        text = f"{model.name} cannot overflow: {why}"
        yield Finding(SUBJECT, Level.WARN, text, remedy)


def _has_own(settings: Settings, model: Model) -> bool:
    """Whether an engine of ours may appear for it: one that is listed, started, or, where no model
    says how it is started, whatever a Ray serves."""
    if any(replica.model == model.name for replica in settings.fleet.static):
        return True
    is_elsewhere = not any(m.engine for m in settings.models)
    return bool(settings.fleet.serve_url) and (model.engine is not None or is_elsewhere)


def _pools(settings: Settings, model: Model) -> list[Pool]:
    """Where its engines are or may appear."""
    fleet = settings.fleet
    found = [engine.pool or fleet.pool for engine in fleet.static if engine.model == model.name]
    return found if found and not fleet.serve_url else [*found, fleet.pool]


def _admitted(caller: Caller, pools: Sequence[Pool]) -> bool:
    return any(caller.policy.residency.admits(pool.label) for pool in pools)


def _buys(caller: Caller, sold: Sequence[Offering]) -> bool:
    policy = caller.policy
    may_leave = policy.overflow in OURS and not policy.is_load_test
    return may_leave and any(policy.residency.admits(offering.label) for offering in sold)


def _reason(
    settings: Settings, mute: Sequence[Caller], sold: Sequence[Offering], *,
    pools: Sequence[Pool], unused_keys: Mapping[str, str],
) -> tuple[str, str]:  # fmt: skip
    """Why none of them gets an answer, and what to do."""
    own = "no engine is started or listed"
    if pools:
        places = ", ".join(sorted({pool.jurisdiction for pool in pools}))
        own = f"the engines stand in {places} (fleet.pool)"
    if sold:
        why, remedy = _cannot_buy(mute, sold)
        return f"{own}, and {why}", remedy
    if settings.providers:
        return f"{own}, and it names no offering", "name `offerings` for the model"
    remedy = "start an engine (leave out --no-engine), or switch a provider on in --config:"
    if unused_keys:
        variable, provider = next(iter(unused_keys.items()))
        return (
            f"{own}, and no provider is switched on",
            f"{remedy} `providers: [{{id: {provider}}}]` ({variable} is set here)",
        )
    return (
        f"{own}, and no provider is switched on",
        f"{remedy} `providers: [{{id: deepseek}}]`, its key in DEEPSEEK_API_KEY",
    )


def _cannot_buy(callers: Sequence[Caller], sold: Sequence[Offering]) -> tuple[str, str]:
    """Why none of the callers may use any of the offerings, and what to do."""
    willing = [c for c in callers if c.policy.overflow in OURS and not c.policy.is_load_test]
    if not willing:
        return f"{_keys(callers)} may not overflow", "set `overflow: allowed` for a key"
    tenants = _listed({caller.tenant for caller in willing})
    where = _listed({f"{offering.id} ({offering.label.jurisdiction})" for offering in sold})
    return (
        f"the residency of {tenants} admits none of {where}",
        "set `residency` (and `jurisdictions`) of that tenant, or offer a model in its country",
    )


def _keys(callers: Sequence[Caller]) -> str:
    word = "key" if len(callers) == 1 else "keys"
    return f"{word} {_listed({caller.key_id for caller in callers})}"


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)[:NAMES_MAX]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
