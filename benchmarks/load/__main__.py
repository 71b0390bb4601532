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
from importlib import import_module

from benchmarks.load.parser import told
from benchmarks.load.wording import spoken, word

COMMANDS = {
    "run": "benchmarks.load.run",
    "capacity": "benchmarks.load.search",
    "compare": "benchmarks.load.against",
    "acceptance": "benchmarks.acceptance.__main__",
    "drill": "benchmarks.drills.__main__",
    "soak": "benchmarks.drills.soak",
}
"""Each is loaded when it is asked for: together they take seconds on a busy machine."""
STOPPED = 130


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    if argv and argv[0] in COMMANDS:
        try:
            code: int = import_module(COMMANDS[argv[0]]).main(argv[1:])
        except KeyboardInterrupt:
            print(word("stopped", spoken()), file=sys.stderr)
            code = STOPPED
        return code
    is_asked = bool(argv) and argv[0] in ("-h", "--help")
    print(told(__doc__ or ""), file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
