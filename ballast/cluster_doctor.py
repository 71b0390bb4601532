"""`ballast doctor --cluster`: would this release run on this cluster?

Asks only, changes nothing; the chart runs it before each install and upgrade.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ballast import cluster_checks, cluster_probe, release_diff, release_values
from ballast.cluster_facts import Wanted, read
from ballast.doctor import Finding, Level
from ballast.messages import Said
from ballast.outlook import Terms, outlook
from ballast.problem import ProblemError
from serving.auth import KeyConflict
from serving.keys import Keys
from serving.offerings import accounts, offerings
from serving.settings import Settings, SettingsError, load


def findings(path: Path, config: Path | None, kube_api: str) -> Iterator[Finding]:
    """All that would stop the release, or should be known. Raises ProblemError."""
    wanted = read(path)
    try:
        settings = load(config)
    except SettingsError as error:
        yield Finding("settings", Level.STOP, str(error), Said("cluster.mend_values"))
        return
    yield from _settings(settings, wanted)
    seen = cluster_probe.look(cluster_probe.Api(kube_api), wanted)
    yield from cluster_checks.examine(wanted, seen, settings)
    if wanted.ray:
        yield from cluster_checks.asked(list(cluster_probe.hubs(settings)))
    yield Finding("upgrade", Level.OK, Said("cluster.upgrade_says"))


def upgrade(
    paths: tuple[Path, Path], charts: Sequence[Path], release: str
) -> tuple[list[str], list[Finding]]:
    """What going from one manifest or values file to the other changes, for people, and what that
    does; values are rendered by Helm. Raises ProblemError."""
    rendering = release_values.Rendering(shutil.which("helm"), charts, release)
    texts = release_values.manifests(paths, rendering)
    try:
        found = release_diff.changes(*texts)
    except release_diff.NotAManifestError as error:
        remedy = Said("cluster.how_manifest")
        raise ProblemError(Said("cluster.no_manifest", error=error), remedy) from None
    return list(release_diff.lines(found)), list(release_diff.consequences(found))


def _settings(settings: Settings, wanted: Wanted) -> Iterator[Finding]:
    """What the gateway would say at its start, and what the providers say of its keys."""
    try:
        bought = accounts(settings)
        terms = Terms(offerings(settings, bought), Keys(settings).callers)
    except (SettingsError, KeyConflict) as error:
        yield Finding("settings", Level.STOP, str(error), Said("cluster.mend_setting"))
        return
    yield Finding(
        "settings", Level.OK, Said("cluster.providers", names=", ".join(bought) or "none")
    )
    yield from outlook(settings, terms, {})
    if not wanted.asks_providers:
        return
    names = [one.id for one in wanted.reachable if one.id in bought]
    yield from cluster_checks.asked(list(cluster_probe.providers(bought, names)))
    for name in sorted(bought.keys() - names):
        yield Finding(
            Said("cluster.provider", name=name),
            Level.WARN,
            Said("cluster.not_admitted"),
            Said("cluster.mend_tenants"),
        )
