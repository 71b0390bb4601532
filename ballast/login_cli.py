"""`ballast login|logout|whoami`: who you are to the admin API."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from ballast import login, running
from ballast.admin_client import desk, keep
from ballast.admin_flags import AsJson, Config, KeyFile
from ballast.admin_words import clean, when
from ballast.identity import ADMIN_TOKEN
from ballast.messages import Said, say
from ballast.printing import print_json
from ballast.problem import ProblemError

Device = Annotated[
    bool, typer.Option("--device", help="Type a code elsewhere: for a machine without a browser.")
]
Browser = Annotated[bool, typer.Option(help="Open it; else the address is only printed.")]


def log_in(device: Device = False, browser: Browser = True, config: Config = None) -> None:
    """Log in at the identity provider; later commands are then yours, not the owner's."""
    settings = running.settings_of(config)
    oidc = settings.oidc
    if oidc is None or not oidc.client_id:
        what = Said("login.no_oidc") if oidc is None else Said("login.no_client")
        raise ProblemError(what, Said("login.see_readme"))

    def show_code(page: str, code: str) -> None:
        typer.echo(say("login.open", page=clean(page), code=clean(code)))

    def show_page(page: str) -> None:
        typer.echo(say("login.log_in_at", page=page))
        if browser:
            webbrowser.open(page)

    done = login.on_device(oidc, show_code) if device else login.in_browser(oidc, show_page)
    path = settings.state_dir.expanduser() / ADMIN_TOKEN
    keep(path, done.token)
    typer.echo(
        say(
            "login.logged_in", subject=clean(done.subject), until_s=when(int(done.until_s * 1000.0))
        )
    )


def log_out(config: Config = None) -> None:
    """Forget the token here. It stays good at the gateway until it ends."""
    path = running.settings_of(config).state_dir.expanduser() / ADMIN_TOKEN
    was_there = path.exists()
    path.unlink(missing_ok=True)
    typer.echo(say("login.logged_out") if was_there else say("login.nobody"))


def whoami(config: Config = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Who you are to the admin API, and what you may do."""
    found = desk(config, key_file).get("/whoami")
    if as_json:
        print_json(found)
        return
    typer.echo(clean(found["id"]))
    for one in found["allowed"]:
        over = say("login.all_tenants") if one["tenants"] is None else clean(one["tenants"])
        typer.echo(f"{clean(one['rights'])}  ({over})")
