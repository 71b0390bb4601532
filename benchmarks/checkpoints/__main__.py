"""Writes tiny checkpoints: `python -m benchmarks.checkpoints FOLDER [NAME ...]`.

Each stands for one architecture class of vLLM; without names all are written.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.checkpoints.architectures import ARCHITECTURES
from benchmarks.checkpoints.vocabulary import VocabularyError
from benchmarks.checkpoints.write import SEED, write

EXIT_NOT_INSTALLED = 3


def main(argv: list[str] | None = None) -> int:
    """Command line; prints a line for each checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoints")
    parser.add_argument("folder", type=Path, help="where their folders are made")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ARCHITECTURES))
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(ARCHITECTURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(ARCHITECTURES)}")
    for name in options.names or ARCHITECTURES:
        started_s = time.monotonic()
        try:
            folder = write(ARCHITECTURES[name], options.folder, options.seed)
        except VocabularyError as error:
            sys.stderr.write(f"{error}\n")
            return EXIT_NOT_INSTALLED
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        seconds = time.monotonic() - started_s
        print(f"{folder}  {size / 1e6:.0f} MB  {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
