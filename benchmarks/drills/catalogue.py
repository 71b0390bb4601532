"""The drills, as data. Loads are small and pauses generous: what is tried is what becomes of each
request, on a busy machine too; how much the gateway bears is what `benchmarks.gateway` measures.
"""

from __future__ import annotations

from benchmarks.drills import catalogue_engines, catalogue_stores, catalogue_thirds
from benchmarks.drills.values import Drill

DRILLS: dict[str, Drill] = {
    drill.name: drill
    for drill in (*catalogue_thirds.DRILLS, *catalogue_engines.DRILLS, *catalogue_stores.DRILLS)
}
"""By name."""
