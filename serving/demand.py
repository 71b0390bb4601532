"""What was asked of each model, in calls and tokens, for the controller: served by our engines,
refused for want of them, sent to an API instead. Counts only; decides nothing.

An answer of ours that came too late (by its first token where it is streamed) is counted as late
where the call had to stay: no third party may see it, or none would have been sooner. What could
have left and was late all the same is a wrong prediction, which engines do not cure. Refused calls
that could not have left are counted once more, as bound: no API relieves them.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.capacity import Load, Profile, estimate
from serving.choice import EXPECTED_TOKENS
from serving.progress import Progress
from serving.records import Call, Caller, DataLabel, Outcome, Overflow, Usage
from serving.rules import effective_residency
from serving.slo import Kept, kept

_REFUSED = (Outcome.REFUSED, Outcome.FULL)
_SHED = frozenset({"no_capacity", "engine_loading", "queue_full", "deadline_unreachable"})
"""Refusals that more engines would have cured."""
_ANSWERED = (Outcome.OK, Outcome.CUT, Outcome.DISCONNECTED, Outcome.CALLER_ERROR)
_UNANSWERED = (Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT)
_IDLE = Load()
# Looking a member up on its class costs 0.2 us in Python 3.11.
_OK, _LATE = Outcome.OK, Kept.LATE
TIGHT = "local:tight"
"""`routing`: our engine is expected to be late, and no third party was better."""
_ANY: Mapping[str, frozenset[DataLabel]] = {}


class Demand:
    """Totals by model since this process began; they only grow."""

    def __init__(
        self, profiles: Mapping[str, Profile], labels: Mapping[str, frozenset[DataLabel]] = _ANY
    ) -> None:
        """`labels`: of the third parties behind each model."""
        self._profiles = profiles
        self._labels = labels
        self._served = {name: [0, 0] for name in profiles}
        self._shed = {name: [0, 0, 0] for name in profiles}
        self._burst = {name: [0, 0, 0] for name in profiles}
        self._late = {name: [0, 0, 0] for name in profiles}
        self._bound = dict.fromkeys(profiles, 0)
        self._filling = dict.fromkeys(profiles, 0)

    def filling(self, model: str) -> int:
        """Calls under way that ask for no engines: they fill idle ones, or test the load."""
        return self._filling[model]

    def fills(self, model: str, calls: int) -> None:
        """So many more of them, or fewer."""
        self._filling[model] += calls

    def served(self, model: str, usage: Usage) -> None:
        """An attempt on one of our engines ended."""
        tokens = self._served[model]
        # What the prefix cache held was not computed.
        tokens[0] += max(0, usage.prompt_tokens - usage.cached_tokens)
        tokens[1] += usage.completion_tokens

    def request(self, progress: Progress) -> None:
        """A request ended. What our own engines answered in the end is no burst, wherever else it
        was tried: `served` has it."""
        outcome, reason, attempt = progress.outcome, progress.burst_reason, progress.attempt
        is_shed = outcome in _REFUSED and progress.code in _SHED
        is_shed = is_shed or (reason != "" and outcome in _UNANSWERED)
        is_late = attempt is not None and not reason and self._is_late(progress)
        if not is_shed and not is_late and not (reason and outcome in _ANSWERED):
            return
        call, usage = progress.call, progress.usage
        if attempt is not None and not is_shed:
            # Of an answer that began at home, the third party's part: `served` has the rest.
            usage, _ = attempt.counted(call)
        if call.pin or progress.caller.policy.is_load_test:
            return  # asked of one target, or to see what happens: nobody waits for more engines
        if call.route and reason == call.route:
            return  # sent there by a split, whatever else there is
        profile = self._profiles[call.model]
        if not could_serve(profile, call):
            return
        prompt = usage.prompt_tokens or call.prompt_tokens
        if is_late:
            prompt = max(0, prompt - usage.cached_tokens)
        output = usage.completion_tokens or expected(call, profile)
        total = (self._shed if is_shed else self._late if is_late else self._burst)[call.model]
        total[0] += 1
        if is_shed and self._is_bound(progress):
            self._bound[call.model] += 1
        total[1] += prompt
        total[2] += output

    def _is_late(self, progress: Progress) -> bool:
        """Answered at home too late, and had to stay there."""
        if progress.outcome is not _OK or kept(progress) is not _LATE:
            return False
        return self._is_bound(progress, progress.reason)

    def _is_bound(self, progress: Progress, reason: str = "") -> bool:
        labels = self._labels.get(progress.call.model, frozenset())
        return had_to_stay(progress.call, progress.caller, reason, labels)

    def totals(self, model: str) -> dict[str, int]:
        """As `/signals` shows them."""
        served, shed, burst = self._served[model], self._shed[model], self._burst[model]
        late = self._late[model]
        return {
            "shed_total": shed[0],
            "burst_total": burst[0],
            "served_prompt_total": served[0],
            "served_output_total": served[1],
            "shed_prompt_total": shed[1],
            "shed_output_total": shed[2],
            "burst_prompt_total": burst[1],
            "burst_output_total": burst[2],
            "late_total": late[0],
            "late_prompt_total": late[1],
            "late_output_total": late[2],
            "bound_total": self._bound[model],
        }


def had_to_stay(call: Call, caller: Caller, reason: str, labels: frozenset[DataLabel]) -> bool:
    """Whether a call that our engines answered could have gone to no third party instead: `reason`
    is of its placement, `labels` are of the third parties behind its model. Pure."""
    if caller.policy.overflow is not Overflow.ALLOWED or call.is_home_only:
        return True
    if reason.endswith(TIGHT):
        return True  # was seen to be late, and nobody else would have been sooner
    return not any(map(effective_residency(call, caller).admits, labels))


def could_serve(profile: Profile, call: Call) -> bool:
    """Whether an idle engine would have begun its answer before the call's deadline. Pure."""
    alone = estimate(profile, _IDLE, call.prompt_tokens, 0)
    return call.received_s + alone.first_token_s.p50 <= call.first_token_by_s


def expected(call: Call, profile: Profile) -> int:
    """Tokens of an answer that was never given. Pure."""
    limit = call.max_tokens if call.max_tokens is not None else EXPECTED_TOKENS
    return min(limit, profile.mean_output_tokens)
