"""`python -m benchmarks.guard COMMAND`: what the guard finds, and what it costs.

corpus   recall and false alarms on the shipped corpus
speed    time per event, per term list, per input
against  how many times faster than another checkout, side by side
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.guard import against, corpus, speed

COMMANDS = {"against": against.main, "corpus": corpus.main, "speed": speed.main}


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:])
    is_asked = bool(argv) and argv[0] in ("-h", "--help")
    print(__doc__, file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
