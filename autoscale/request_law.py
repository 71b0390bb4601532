"""What must always hold in a request-level simulation: every call is somewhere, and once. At each
tick by counters alone; at the end everything is looked at. A breach is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoscale.calls import MODEL, Row, Tally
from autoscale.request_fleet import Fleet
from serving.admission import Admission


def always(tally: Tally, admission: Admission, under_way: int, held: int) -> None:
    """Calls that came are answered, refused, under way or held; tickets are out for those under
    way and for no others."""
    assert tally.calls == tally.answered + tally.refused + under_way + held, "a call is lost"
    assert admission.running(MODEL) == under_way, "a ticket is lost"
    assert admission.issued - admission.released == under_way, "a ticket is counted twice"


def finally_(rows: Sequence[Row], tally: Tally, admission: Admission, fleet: Fleet) -> None:
    """Nothing is left anywhere, and all tokens asked for were done or refused, once each."""
    always(tally, admission, 0, 0)
    assert tally.calls == len(rows)
    busy = [target for target, state in admission.state.items() if state.unfinished]
    assert not busy, f"calls left on {busy}"
    assert not any(engine.calls for engine in fleet.engines.values()), "calls left in an engine"
    for part, asked in enumerate((sum(r.prompt for r in rows), sum(r.output for r in rows))):
        done = tally.own[part] + tally.api[part] + tally.shed[1 + part]
        assert done == asked, f"{asked} tokens asked for, {done} done or refused"
