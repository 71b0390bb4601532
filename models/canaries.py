"""Where the packaged canary prompts lie; `serving.quality` reads and asks them."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).with_name("canaries.yaml")
