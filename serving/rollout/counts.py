"""What the ledger tells of a rollout's two sides, and of a model's usual load. Pure: questions and
how their answers are read; both stores understand them.

A call counts when it has ended, by its request row, which names its side also where it was refused
or the other side's model answered it. An error is a call in which a target failed, also where
another answered in its stead (the client saw nothing of it, the new version did fail), or one that
left because no engine of its side could be used, as with a breaker open. A caller's fault or limit,
a hang-up, what an operator stopped and what this gateway itself lacked say nothing about a side.
Faults of callers are counted for themselves: the two sides have the same callers. A limit of their
own (429) is no fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from serving.records import LatencyClass
from serving.rollout.aside import OLD_SIDE
from serving.rollout.decide import Tally
from serving.rollout.values import Rollout
from serving.rollout.weights import side
from serving.settings import Settings

SIDE = """
SELECT COUNT(*),
 COALESCE(SUM(CASE WHEN r.status >= 500 OR r.reason = :gone OR r.route = :aside
  OR r.outcome IN ('upstream_error', 'timeout', 'cut', 'internal', 'gateway_lost')
  OR EXISTS (SELECT 1 FROM attempts a WHERE a.request_id = r.request_id
   AND a.outcome IN ('upstream_error', 'timeout', 'cut', 'internal', 'gateway_lost'))
  THEN 1 ELSE 0 END), 0),
 COALESCE(SUM(CASE WHEN r.first_token_ms > CASE r.latency_class
   WHEN 'live' THEN :live WHEN 'interactive' THEN :interactive
   WHEN 'patient' THEN :patient ELSE :batch END THEN 1 ELSE 0 END), 0)
 FROM requests r WHERE r.ended_ms >= :since AND r.received_ms >= :since AND r.batch = ''
 AND r.route IN (:side, :aside)
 AND r.code NOT IN ('stopped', 'draining', 'journal_full')
 AND r.outcome NOT IN ('caller_error', 'disconnected')
 AND NOT (r.status >= 400 AND r.status < 500)
"""
REJECTED = """
SELECT r.key_id, COUNT(*), SUM(CASE WHEN r.outcome = 'caller_error' THEN 1 ELSE 0 END)
 FROM requests r WHERE r.ended_ms >= :since AND r.received_ms >= :since AND r.batch = ''
 AND r.route IN (:side, :aside)
 AND r.code NOT IN ('stopped', 'draining', 'journal_full')
 AND (r.outcome = 'caller_error' AND r.status <> 429
  OR r.outcome <> 'disconnected' AND NOT (r.status >= 400 AND r.status < 500))
 GROUP BY r.key_id ORDER BY 3 DESC, r.key_id LIMIT 10000
"""
LOADS = (
    "SELECT tenant, key_id, latency_class, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens)"
    " FROM requests WHERE ended_ms >= :since AND model = :model AND feature <> 'load-test'"
    " GROUP BY tenant, key_id, latency_class ORDER BY COUNT(*) DESC LIMIT 10000"
)
NEVER_MS = 1 << 53


class Load(NamedTuple):
    """Calls of one key and class in the time that was asked for."""

    tenant: str
    key_id: str
    latency_class: LatencyClass
    calls: int
    prompt_tokens: int
    completion_tokens: int


def asked(
    rollout: Rollout, which: str, since_ms: int, first_s: Mapping[LatencyClass, float]
) -> dict[str, Any]:
    """The values of SIDE; `first_s` are the classes' times to the first token, seconds."""
    name = f"split:{side(rollout.id, which)}"
    gone = f"{name}/overflow:no_replica" if rollout.needs_engine else ""
    limits = {str(one): min(NEVER_MS, round(first_s[one] * 1e3)) for one in LatencyClass}
    return {
        "since": since_ms,
        "side": name,
        "aside": name + OLD_SIDE,
        "gone": gone,
        **limits,
    }


def tally(rows: Iterable[tuple[Any, ...]]) -> Tally:
    """The answer to SIDE."""
    for row in rows:
        return Tally(*map(int, row))
    return Tally()


def of_keys(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The values of REJECTED, of those of SIDE."""
    return {name: asked[name] for name in ("since", "side", "aside")}


def rejected(found: Tally, rows: Sequence[tuple[Any, ...]], calls_min: int) -> Tally:
    """With the answer to REJECTED. Where other keys called as well, the key with the most faults is
    left out: one client in a loop says nothing about a model."""
    left = [(int(asked), int(faults)) for _, asked, faults in rows]
    if sum(asked for asked, _ in left[1:]) >= calls_min:
        left = left[1:]
    return found._replace(
        asked=sum(asked for asked, _ in left), rejected=sum(faults for _, faults in left)
    )


def loads(rows: Iterable[tuple[Any, ...]]) -> list[Load]:
    """The answer to LOADS."""
    return [Load(r[0], r[1], LatencyClass(r[2]), *map(int, r[3:])) for r in rows]


def first_s(settings: Settings) -> dict[LatencyClass, float]:
    """Each class's time to the first token."""
    return {one: settings.gateway.classes[one].first_token_s for one in LatencyClass}
