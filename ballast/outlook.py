"""Who could answer a call with these settings, and whose calls nobody could. Pure.

Judges what can be known before the start: engines to come, offerings, keys, residency. Whether they
are well is the gateway's to find out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from ballast.doctor import Finding, Level
from ballast.messages import Said
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
        remedy = Said("outlook.add_keys", file=settings.keys_file)
        return [Finding(SUBJECT, Level.WARN, Said("outlook.no_key"), remedy)]
    found = [
        finding
        for model in settings.models
        for finding in _judge(settings, model, terms, unused_keys or {})
    ]
    names = [model.name for model in settings.models]
    return found or [Finding(SUBJECT, Level.OK, Said("outlook.good", names=names))]


def _judge(
    settings: Settings, model: Model, terms: Terms, unused_keys: Mapping[str, str]
) -> Iterator[Finding]:
    sold = terms.sold.get(model.name, ())
    callers = [c for c in terms.callers if c.policy.models is None or model.name in c.policy.models]
    pools = _pools(settings, model) if _has_own(settings, model) else []
    mute = [c for c in callers if not _admitted(c, pools) and not _buys(c, sold)]
    if not callers:
        text = Said("outlook.no_caller", model=model.name)
        yield Finding(SUBJECT, Level.WARN, text, Said("outlook.name_it"))
    elif len(mute) == len(callers):
        why, remedy = _reason(settings, mute, sold, pools=pools, unused_keys=unused_keys)
        text = Said("outlook.nothing", model=model.name, why=why)
        yield Finding(SUBJECT, Level.WARN, text, remedy)
    elif mute:
        why, remedy = _reason(settings, mute, sold, pools=pools, unused_keys=unused_keys)
        text = Said("outlook.not_these", keys=_keys(mute), model=model.name, why=why)
        yield Finding(SUBJECT, Level.WARN, text, remedy)
    elif sold and not any(_buys(caller, sold) for caller in callers):
        why, remedy = _cannot_buy(callers, sold)
        text = Said("outlook.no_overflow", model=model.name, why=why)
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
) -> tuple[Said, Said]:  # fmt: skip
    """Why none of them gets an answer, and what to do."""
    own = Said("outlook.no_engine")
    if pools:
        own = Said("outlook.engines_in", places=sorted({pool.jurisdiction for pool in pools}))
    if sold:
        why, remedy = _cannot_buy(mute, sold)
        return Said("outlook.both", first=own, second=why), remedy
    if settings.providers:
        why = Said("outlook.both", first=own, second=Said("outlook.no_offering"))
        return why, Said("outlook.name_offerings")
    why = Said("outlook.both", first=own, second=Said("outlook.no_provider"))
    if unused_keys:
        variable, provider = next(iter(unused_keys.items()))
        how = Said("outlook.set_here", variable=variable)
    else:
        provider, how = "deepseek", Said("outlook.its_key_in", variable="DEEPSEEK_API_KEY")
    return why, Said("outlook.start_or_switch", entry=f"{{id: {provider}}}", how=how)


def _cannot_buy(callers: Sequence[Caller], sold: Sequence[Offering]) -> tuple[Said, Said]:
    """Why none of the callers may use any of the offerings, and what to do."""
    willing = [c for c in callers if c.policy.overflow in OURS and not c.policy.is_load_test]
    if not willing:
        return Said("outlook.may_not", keys=_keys(callers)), Said("outlook.set_allowed")
    tenants = _listed({caller.tenant for caller in willing})
    where = _listed({f"{offering.id} ({offering.label.jurisdiction})" for offering in sold})
    return (
        Said("outlook.residency", tenants=tenants, where=where),
        Said("outlook.set_residency"),
    )


def _keys(callers: Sequence[Caller]) -> Said:
    names = _listed({caller.key_id for caller in callers})
    return Said("outlook.key" if len(callers) == 1 else "outlook.keys", names=names)


def _listed(names: Collection[str]) -> Sequence[str] | Said:
    shown = sorted(names)[:NAMES_MAX]
    more = len(names) - len(shown)
    return Said("outlook.more", names=shown, count=more) if more else shown
