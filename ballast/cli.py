"""The command line: each command reads settings, calls one module, turns a problem into words."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from ballast import (
    admin_groups,
    alerts_cli,
    cluster_options,
    explain_cli,
    first_week_cli,
    identity,
    ledger_cli,
    login_cli,
    messages,
    models_cli,
    plan,
    scorecard_cli,
    stage_doctor,
)
from ballast import bench as benching
from ballast import chat as chatting
from ballast import cluster_doctor as clustering
from ballast import cost as costing
from ballast import doctor as doctoring
from ballast import fake as faking
from ballast import findings as findings_page
from ballast import in_cluster_cli as settling
from ballast import planning_cli as planning
from ballast import simulate_cli as simulating
from ballast import status as stating
from ballast.messages import Said
from ballast.messages.chosen import spoken
from ballast.prepare import identity_of, prepare
from ballast.problem import ProblemError, worded
from ballast.running import asked_model, base_url, settings_of
from ballast.speaking import Speaking
from serving.settings import EXIT_CODE, SettingsError

app = typer.Typer(
    help="Ballast: self-hosted LLM serving, with APIs for the peaks.",
    cls=Speaking,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Given = ParamSpec("Given")
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings file (YAML).", dir_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Source = Annotated[
    str, typer.Option(help="A configured name, a folder or a hub id; else the embedded model.")
]
Public = Annotated[
    int | None, typer.Option(help="Public port.", min=0, max=65535, show_default="8080")
]
WithEngine = Annotated[bool, typer.Option(help="Start an engine on this machine.")]
Stage = Annotated[str, typer.Option(metavar="poc|beta|scale", help="What this stage lacks here.")]


def command(act: Callable[Given, None]) -> Callable[Given, None]:
    """Print a problem to stderr and end with its exit code."""

    @functools.wraps(act)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        try:
            act(*args, **kwargs)
        except SettingsError as error:
            _complain(ProblemError(worded(error), Said("cli.mend_settings"), exit_code=EXIT_CODE))
        except ProblemError as problem:
            _complain(problem)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:  # `ballast status | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return run


def _complain(problem: ProblemError) -> None:
    console = Console(stderr=True)
    what, remedy = problem.told(spoken())
    console.print(f"[bold red]ballast:[/] {escape(what)}", soft_wrap=True, highlight=False)
    if remedy:
        todo = messages.text("cli.what_to_do", spoken())
        console.print(f"[bold]{todo}[/] {escape(remedy)}", soft_wrap=True, highlight=False)
    raise typer.Exit(problem.exit_code)


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"ballast {metadata.version('ballast')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", help="Print it.", callback=_version, is_eager=True)
    ] = False,
    __: Annotated[
        str,
        typer.Option("--lang", metavar="zh|en", help="Language; else BALLAST_LANG, the locale's."),
    ] = "",  # taken by Speaking wherever it stands; here for --help alone
) -> None:
    """Ballast: self-hosted LLM serving, with APIs for the peaks."""


@app.command()
@command
def status(config: Config = None, as_json: AsJson = False) -> None:
    """Show fleet, queue, the latest decisions and the day's money."""
    found = stating.collect(settings_of(config))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(stating.tables(found, spoken()))


@app.command()
@command
def doctor(
    config: Config = None,
    model: Source = "",
    port: Public = None,
    engine: WithEngine = True,
    stage: Stage = "",
    as_json: AsJson = False,
    cluster: cluster_options.Cluster = None,
    kube_api: cluster_options.KubeApi = "",
    upgrade: cluster_options.Upgrade = None,
    chart: cluster_options.Chart = None,
    release: cluster_options.Release = "llm/ballast",
) -> None:
    """Say what would stop `up` with the same flags, on this machine and in the settings, and how
    to mend it; with --stage, what that stage lacks; with --cluster, what would stop a release
    there; with --upgrade, what going from one manifest or values file to another changes and
    restarts."""
    findings: list[doctoring.Finding] = []
    if upgrade is not None:
        told, findings = clustering.upgrade(upgrade, chart or (), release)
        typer.echo("" if as_json else "\n".join([*told, ""]), nl=not as_json)
    if cluster is not None:
        findings += clustering.findings(cluster, config, kube_api)
    elif upgrade is None:
        wish = plan.Wish(model=model, port=port, has_engine=engine)
        findings = list(stage_doctor.findings(stage, config, wish))
    if as_json:
        rows = [{n: str(part) for n, part in f._asdict().items()} for f in findings]
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)))
    else:
        findings_page.show(findings)
    raise typer.Exit(1 if doctoring.stops(findings) else 0)


@app.command()
@command
def chat(
    question: Annotated[str, typer.Argument(metavar="TEXT", help="What to ask.")],
    config: Config = None,
    model: Annotated[str, typer.Option(help="Model name; else the first.")] = "",
    max_tokens: Annotated[int, typer.Option(help="Longest answer, tokens.", min=1)] = 256,
    key_file: Annotated[
        Path | None,
        typer.Option("--key", help="File with the API key to use; `-` reads it from the input."),
    ] = None,
) -> None:
    """Ask the running stack with the demo key or another; the answer streams."""
    settings = settings_of(config)
    name = model or asked_model(settings, plan.DEMO_MODEL)
    body: dict[str, Any] = {
        "model": name,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }

    def show(piece: str) -> None:
        typer.echo(piece, nl=False)
        sys.stdout.flush()

    state = settings.state_dir.expanduser()
    key = identity.demo_key(state) if key_file is None else chatting.key_in(key_file)
    told = chatting.chat(base_url(settings), key, body, show)
    typer.echo("")
    typer.echo(chatting.summary(settings, told).told(spoken()), err=True)


app.add_typer(models_cli.guarded(command), name="models")


@models_cli.group.callback(invoke_without_command=True)
@command
def models(context: typer.Context, config: Config = None) -> None:
    """List the models that clients may call; the catalogue is behind the commands below."""
    settings = settings_of(config)
    context.obj = settings.cards_dir  # for the commands below
    if context.invoked_subcommand is not None:
        return
    if not settings.models:
        with identity_of(settings.state_dir) as own:
            settings = prepare(settings, own, plan.Wish()).settings
    for model in settings.models:
        engine = messages.say("models.engine" if model.engine else "models.no_engine")
        names = ", ".join((model.name, *model.aliases))
        held = messages.say("models.tokens", count=model.context_tokens)
        typer.echo(f"{names}\t{held}\t{engine}\t{' '.join(model.offerings)}")


first_week_cli.register(app, command)
faking.register(app, command)
benching.register(app, command)
costing.register(app, command, settings_of)
settling.register(app, command)
app.add_typer(explain_cli.guarded(command))
simulating.register(app, command)
app.command("alerts")(command(alerts_cli.alerts))
planning.register(app, command)
app.command("login")(command(login_cli.log_in))
app.command("logout")(command(login_cli.log_out))
app.command("whoami")(command(login_cli.whoami))
ledger_cli.register(app, command)
app.command("scorecard")(command(scorecard_cli.scorecard))
for name, group in admin_groups.guarded(command):
    app.add_typer(group, name=name)

if __name__ == "__main__":
    app()
