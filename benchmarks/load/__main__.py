"""`python -m benchmarks.load COMMAND`: loads on any OpenAI-compatible endpoint.

  run        one load, measured
  capacity   the highest rate within the goal
  acceptance one rented GPU hour: coefficients, capacity, cost, verdict (`benchmarks.acceptance`)
  compare    two runs, with intervals of confidence
  drill      faults under load on processes of its own, judged (`benchmarks.drills`)
  soak       a long steady load on such processes, and whether memory grows

`COMMAND --help` tells the flags; docs/load-testing.md tells the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.acceptance import __main__ as acceptance
from benchmarks.drills import __main__ as drills
from benchmarks.drills import soak
from benchmarks.load import against, run, search
from benchmarks.load.parser import told

COMMANDS = {"run": run.main, "capacity": search.main, "compare": against.main,
            "acceptance": acceptance.main, "drill": drills.main, "soak": soak.main}  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:])
    is_asked = bool(argv) and argv[0] in ("-h", "--help")
    print(told(__doc__ or ""), file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
