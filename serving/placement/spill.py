"""When a model's calls begin to leave before they would be late, and which of them. Pure.

A call that would miss its deadline leaves at once, whatever stands here (`routing`). This is the
slower hand: under pressure that lasts, those leave first that free most GPU time for the least
money, so that the rest need not; it lets go only well below where it took hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from models.capacity import Profile
from serving.accounting import price_at
from serving.choice import IDLE, predict
from serving.placement.score import output_tokens
from serving.placement.values import CALM, Spill
from serving.records import Call, FleetView, LatencyClass, Offering

SHARE_MIN: Final = 0.1
"""While it holds on at all, so many of the calls that may leave do."""
_HASTY = (LatencyClass.LIVE, LatencyClass.INTERACTIVE)


class Marks(NamedTuple):
    """Where it takes hold and lets go: predicted wait / time to the first token of an interactive
    call."""

    enter: float = 0.8
    leave: float = 0.4
    after_s: float = 3.0
    """The pressure must last so long, both ways."""
    first_token_s: float = 5.0


def stepped(
    before: Mapping[str, Spill], view: FleetView, probe: Call, marks: Marks, now_s: float
) -> dict[str, Spill]:
    """The state of each model after another look at it, made once a second. `probe` is a call
    without a prompt: what it would wait is the queue."""
    return {
        model: step(before.get(model, CALM), pressure(model, view, probe, marks, now_s), marks,
                    now_s)
        for model in view.replicas
    }  # fmt: skip


def pressure(model: str, view: FleetView, probe: Call, marks: Marks, now_s: float) -> float:
    """That of the engine with the shortest queue; 0 where there is none to relieve."""
    waits = [
        predict(probe, r, view.state.get(r.id, IDLE), view, now_s).first_token_s.p90
        for r in view.replicas.get(model, ())
    ]
    return min(waits, default=0.0) / marks.first_token_s


def step(before: Spill, now: float, marks: Marks, now_s: float) -> Spill:
    """The state after one look at the pressure."""
    above_s = -1.0
    if now >= marks.enter:
        above_s = before.above_s if before.above_s >= 0.0 else now_s
    below_s = -1.0
    if now < marks.leave:
        below_s = before.below_s if before.below_s >= 0.0 else now_s
    is_on = before.share > 0.0
    if is_on:
        is_on = below_s < 0.0 or now_s - below_s < marks.after_s
    else:
        is_on = above_s >= 0.0 and now_s - above_s >= marks.after_s
    share = 0.0
    if is_on:
        share = min(1.0, max(SHARE_MIN, (now - marks.leave) / (marks.enter - marks.leave)))
    return Spill(now, share, above_s, below_s)


def leaves(call: Call, offering: Offering, profile: Profile, spill: Spill) -> bool:
    """Whether this call is among those that leave now: a person waits for it, it has no warm
    prefix at home, and moving it is cheap for the GPU time that it frees."""
    if spill.share <= 0.0 or call.session or call.latency_class not in _HASTY:
        return False
    return dearness(call, offering, profile) <= spill.share


def dearness(call: Call, offering: Offering, profile: Profile) -> float:
    """0 to 1: the money that a GPU second freed by this call costs, between the cheapest and the
    dearest call there could be (all prompt, all answer). A prompt frees its prefill; an answer its
    part of every step."""
    output = output_tokens(call)
    prompt_s = call.prompt_tokens / profile.prefill_tokens_per_s
    answer_s = output * token_s(profile)
    if not prompt_s or not answer_s:
        return 0.0
    price = price_at(offering, call.received_ms, call.prompt_tokens)
    by_prompt = price.input_micro_per_mtok * profile.prefill_tokens_per_s
    by_answer = price.output_micro_per_mtok / token_s(profile)
    low, high = min(by_prompt, by_answer), max(by_prompt, by_answer)
    if low == high:
        return 0.0
    spent = call.prompt_tokens * price.input_micro_per_mtok
    spent += output * price.output_micro_per_mtok
    return min(1.0, max(0.0, (spent / (prompt_s + answer_s) - low) / (high - low)))


def token_s(profile: Profile) -> float:
    """GPU time of one token of an answer in a full batch."""
    base_s = profile.base_s + profile.experts_s
    return base_s / profile.max_num_seqs + profile.per_sequence_s
