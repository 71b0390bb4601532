"""`python -m deploy.grafana [--check]`: write the dashboards into the chart, or check them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.panels import built, pages

FOLDER = Path(__file__).parents[1] / "helm/ballast/files/dashboards"


def rendered() -> dict[str, str]:
    """The files by name."""
    encoder = JSONEncoder(sort_keys=True, indent=1)
    return {f"{page.uid}.json": encoder.encode(built(page).build()) + "\n" for page in pages()}


def main(argv: list[str] | None = None) -> int:
    """1 when `--check` finds a file that differs."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana", description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args(argv).check
    stale = []
    for name, text in rendered().items():
        path = FOLDER / name
        if path.is_file() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if not is_check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    if is_check and stale:
        sys.stderr.write(f"out of step: {', '.join(stale)}: run `python -m deploy.grafana`\n")
    return int(is_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
