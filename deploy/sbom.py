"""What is installed in an image, as CycloneDX 1.5: `python deploy/sbom.py > sbom.cdx.json`.

Standard library only: it runs inside the image that it describes.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from typing import Any

NO_LICENCE = "UNKNOWN"


def component(distribution: metadata.Distribution) -> dict[str, Any]:
    """One installed package."""
    told = distribution.metadata
    name, version = told["Name"], distribution.version
    licence = str(told.json.get("license_expression") or told.json.get("license") or NO_LICENCE)
    short = licence.splitlines()[0][:200] if licence.strip() else NO_LICENCE
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}",
        "licenses": [{"license": {"name": short}}],
    }


def document() -> dict[str, Any]:
    """All of them, by name."""
    found = {d.metadata["Name"]: component(d) for d in metadata.distributions()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": [found[name] for name in sorted(found, key=str.lower)],
    }


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=1)
    sys.stdout.write("\n")
