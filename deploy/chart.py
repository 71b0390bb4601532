"""What the chart repeats of the code, written from it: `python -m deploy.chart`.

`values.schema.json` holds the settings as pydantic knows them, so that a values file is refused
where the gateway would refuse it; `files/providers.yaml` holds hosts and jurisdictions, from which
network policies follow. A test fails while either is behind the code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from deploy.values_schema import values
from models import provider
from serving.settings import Controller, Settings

CHART = Path(__file__).parent / "helm" / "ballast"


def schema() -> str:
    """The schema of values.yaml, draft 7: the newest that Helm 3.17 reads."""
    settings = Settings.model_json_schema(ref_template="#/definitions/{model}")
    definitions = settings.pop("$defs")
    settings["title"] = "The settings file (serving/settings.py)"
    whole = values(_plain(settings)) | {"definitions": _plain(definitions)}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _plain(node: Any) -> Any:
    """Without what Helm has no use for: defaults (the code's count), titles, long texts."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {k: v for k, v in node.items() if k not in ("default", "description", "format")}
    if isinstance(kept.get("title"), str) and "properties" not in kept:
        del kept["title"]
    found = {k: _plain(v) for k, v in kept.items()}
    if "properties" in node:  # names of settings, not words of the schema
        found["properties"] = {k: _plain(v) for k, v in node["properties"].items()}
    return found


def providers() -> str:
    """Hosts and jurisdictions by provider."""
    rows = {
        row.id: {"jurisdiction": row.jurisdiction, "base_url": row.base_url}
        for row in provider.load(provider.FOLDER).values()
    }
    head = "# Written by `python -m deploy.chart` from models/providers.\n"
    return head + yaml.safe_dump(rows, sort_keys=True)


def known() -> str:
    """Which settings this code has that not every version had: the chart writes only those."""
    has_acting = "acting" in Controller.model_fields
    head = "# Written by `python -m deploy.chart`: what this version's settings know.\n"
    return head + yaml.safe_dump({"controller_acting": has_acting})


FILES = {
    "values.schema.json": schema,
    "files/providers.yaml": providers,
    "files/known.yaml": known,
}


def main() -> None:
    """Write them all."""
    for name, made in FILES.items():
        (CHART / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
