"""`python -m benchmarks.flag_check FILE [STAGE]`: asks vLLM about every card's flags, up to a stage
(minutes up to `configuration`, half an hour to the last), and writes the page.

Ends with 1 when vLLM refuses something that the catalogue proposes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.flag_check.ask import Asker, Folders, ask
from benchmarks.flag_check.cases import cases
from benchmarks.flag_check.page import Judged, render
from benchmarks.flag_check.tally import tally
from models import sizing
from serving.engine.paper.check import STAGES, Stage


def judge(root: Path, deepest: Stage) -> Judged:
    """vLLM's answers to all that the packaged catalogue proposes. `root` gets files."""
    folders = Folders(root)
    questions = list(Asker(folders, deepest).questions(cases(sizing.load())))
    verdicts = list(ask(questions, root / "vllm.log"))
    built = frozenset(question.id for question in questions if question.until == "cache")
    return Judged(folders.digest(questions), verdicts, built)


def main() -> int:
    """Write the page."""
    named = dict(zip(("file", "stage"), sys.argv[1:], strict=False))
    deepest = next((stage for stage in STAGES if stage == named.get("stage", "cache")), None)
    if "file" not in named or deepest is None:
        sys.stderr.write(f"usage: python -m benchmarks.flag_check FILE [{'|'.join(STAGES)}]\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="flag-check-") as root:
        judged = judge(Path(root), deepest)
    text = render(tally(cases(sizing.load())), judged)
    Path(named["file"]).write_text(text, encoding="utf-8")
    refused = sum(bool(verdict.refused) for verdict in judged.verdicts)
    sys.stdout.write(f"{len(judged.verdicts)} asked, {refused} refused by vLLM\n")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
