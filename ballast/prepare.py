"""From settings and flags to what would run: shared by `up`, which runs it, and `doctor`.

Reads the provider table and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ballast import identity, plan
from ballast.messages import Said
from ballast.problem import ProblemError, worded
from models import provider
from serving.auth import digest
from serving.engine import ray_head
from serving.engine.spec import ClusterSpec
from serving.keys import pepper
from serving.settings import EXIT_CODE, Settings, SettingsError


@dataclass(frozen=True, slots=True)
class Prepared:
    """What would run."""

    settings: Settings
    """In force for all parts."""
    rows: Mapping[str, provider.Provider]
    """The provider table."""
    wish: plan.Wish
    """As asked for, less an engine that no model wants."""
    spec: ClusterSpec | None
    """The engines to start."""

    @property
    def has_engine(self) -> bool:
        """Whether an engine is started here."""
        return self.spec is not None


def prepare(settings: Settings, own: identity.Identity, wish: plan.Wish) -> Prepared:
    """Choose models, engines, tenant and addresses. Raises ProblemError."""
    try:
        folders = (provider.FOLDER, *([settings.providers_dir] if settings.providers_dir else ()))
        rows = provider.load(*folders)
    except provider.ProviderFileError as error:
        raise ProblemError(worded(error), Said("outlook.mend_file"), exit_code=EXIT_CODE) from None
    plan.check_providers(settings, rows)
    models = plan.choose_models(settings, wish, rows)
    wish = replace(wish, has_engine=wish.has_engine and any(m.engine for m in models))
    settings = plan.effective(settings, models, own, wish, own.state / ray_head.TOKEN_FILE)
    settings = plan.with_demo_tenant(settings, rows)
    with suppress(SettingsError):  # a bad pepper is named where the gateway's checks are made
        settings = plan.with_owner(settings, digest(pepper(settings), own.admin_key.encode()))
    try:
        spec = plan.cluster(settings, wish) if wish.has_engine else None
    except ValueError as error:  # a SpecError, or a card that cannot lie there
        raise ProblemError(
            worded(error), Said("outlook.mend_models"), exit_code=EXIT_CODE
        ) from None
    return Prepared(settings, rows, wish, spec)


@contextmanager
def identity_of(state: Path) -> Iterator[identity.Identity]:
    """The identity kept in `state`, or, before the first `up`, a passing one like it."""
    if identity.is_made(state):
        yield identity.ensure(state)
    else:
        with TemporaryDirectory(prefix="ballast-") as folder:
            yield identity.ensure(Path(folder))
