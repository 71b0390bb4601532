"""`ballast batches`: what tenants have stored, and erasing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from ballast import acts
from ballast.admin_flags import Config
from ballast.messages import Said, say
from ballast.problem import ProblemError, worded
from ballast.running import settings_of
from serving.batch.base import PAGE_MAX, BatchesAway, BatchStore, Page
from serving.batch.store import opener
from serving.settings import Settings

batches = typer.Typer(help="Files and batches: list, erase.", no_args_is_help=True)
Tenant = Annotated[str, typer.Option(help="Whose they are; `forwarder/customer` of a customer.")]


@contextmanager
def _store(settings: Settings) -> Iterator[BatchStore]:
    try:
        store = opener(settings)()
        try:
            yield store
        finally:
            store.close()
    except BatchesAway as error:
        raise ProblemError(worded(error), Said("desk.run_again")) from None


@batches.command("list")
def listed(tenant: Tenant, config: Config = None) -> None:
    """A tenant's latest batches, newest first."""
    with _store(settings_of(config)) as store:
        used = store.used(tenant)
        for standing in store.batches(tenant, Page(limit=PAGE_MAX)):
            batch = standing.batch
            counts = batch.counts or store.counts(batch.id)
            typer.echo(
                say(
                    "desk.batch",
                    id=batch.id,
                    status=f"{batch.status:<11}",
                    done=counts.done + counts.failed,
                    total=counts.total,
                    failed=counts.failed,
                    model=batch.model or batch.endpoint,
                )
            )
        typer.echo(say("desk.sizes", files=used.files, bytes=used.bytes))


@batches.command("erase")
def erase(
    tenant: Tenant,
    why: Annotated[str, typer.Option(help="Kept in the history.")] = "",
    config: Config = None,
) -> None:
    """Remove all files and batches of a tenant and its customers; open batches end at once."""
    settings = settings_of(config)
    acts.record(settings, f"batches:{tenant}", "batches.erase", {}, why)
    typer.echo(say("desk.batches_erased", settings=erased(settings, tenant)))


def erased(settings: Settings, tenant: str, person: str = "") -> int:
    """Remove a tenant's files and batches, or those made for one of its people; how many."""
    with _store(settings) as store:
        return store.erase(tenant, person)


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add `batches`; `guard` turns problems into words."""
    for info in batches.registered_commands:
        if info.callback is not None:
            info.callback = guard(info.callback)
    app.add_typer(batches, name="batches")
