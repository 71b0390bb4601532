"""A conversation as a case for review. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from serving.guard.values import Finding
from serving.progress import Progress
from serving.records import Call
from serving.review.values import Case, Kind

FINDINGS_MAX = 64


def found_in(progress: Progress) -> tuple[str, ...]:
    """What the guard found, as `stage/kind/action`, without text; input first."""
    verdict = progress.verdict
    if verdict is None:
        return ()
    stages: list[tuple[str, Mapping[Finding, int]]] = [("input", verdict.findings)]
    stages += [("answer", findings) for findings in verdict.answers]
    names = {
        f"{stage}/{finding.kind}/{finding.action.name.lower()}": None
        for stage, findings in stages
        for finding in findings
    }
    return tuple(names)[:FINDINGS_MAX]


def sample_of(call: Call, progress: Progress | None, findings: tuple[str, ...], why: str) -> Case:
    """The case of a conversation; `progress` is None when its client left."""
    case = Case(
        call.request_id, Kind.SAMPLE, call.received_ms, call.tenant, request_id=call.request_id,
        model=call.model, why=why, findings=findings, outcome="disconnected",
    )  # fmt: skip
    if progress is None:
        return case
    return Case(
        case.id, case.kind, case.at_ms, case.tenant, request_id=case.request_id, model=case.model,
        project=progress.caller.project, feature=progress.caller.feature,
        end_user=progress.caller.user, why=why, outcome=str(progress.outcome),
        target=progress.target, findings=findings,
    )  # fmt: skip
