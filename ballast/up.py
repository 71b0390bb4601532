"""`ballast up`: checks, writes what the parts read, runs the stack."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import yaml

from ballast import doctor, environs, identity, plan, preflight, running, sources
from ballast.board import Board
from ballast.doctor import Finding, Level
from ballast.logpipe import LOGS_KEPT
from ballast.messages import Said, named, tell
from ballast.messages.chosen import spoken
from ballast.prepare import Prepared, identity_of, prepare
from ballast.probe import Facts, is_taken, probe
from ballast.problem import ProblemError, worded
from ballast.rotating import shift
from ballast.stack import Stack
from serving.engine.ray_head import ensure_token
from serving.settings import Settings, SettingsError

LOCK = "up.lock"


def _nothing(settings: Settings) -> None:
    """Done before a plain start."""


@dataclass(frozen=True, slots=True)
class Aside:
    """What a stage adds to a plain start."""

    parts: tuple[plan.Part, ...] = ()
    """Started before the gateway."""
    notes: tuple[str, ...] = ()
    """Said once the gateway listens."""
    before: Callable[[Settings], None] = _nothing
    """Done with the settings in force, before anything starts."""
    stage: str = ""
    """Its name."""


PLAIN = Aside()


def up(settings: Settings, wish: plan.Wish, aside: Aside = PLAIN) -> None:
    """Run the stack in the foreground until a signal. Raises ProblemError, SettingsError."""
    settings = rooted(settings)
    own = identity.ensure(settings.state_dir)
    with held(own.state):
        facts = probe(own.state, settings.cache_dir, ports_of(settings, wish), None)
        wish = replace(
            wish,
            device=device_of(facts),
            dashboard_port=free_port(wish.dashboard_port),
        )
        prepared = prepare(settings, own, wish)
        terms = preflight.terms_of(prepared)
        refuse(Said("up.not_ready"), doctor.examine(facts, has_engine=prepared.has_engine))
        refuse(Said("up.not_fit"), list(preflight.room(prepared, facts)))
        for source in sources.hub_ids(prepared):
            looking = Said("up.looking", source=source).told(spoken())
            sys.stdout.write(f"{looking}\n")
            sys.stdout.flush()
        refuse(Said("up.not_had"), list(sources.examine(prepared)))
        write(prepared, own, aside)
        aside.before(prepared.settings)
        _run(prepared, own, preflight.warnings(prepared, terms), aside)


def device_of(facts: Facts) -> str:
    """What the installed vLLM runs on."""
    return "gpu" if "vllm" in facts.packages else "cpu"


def findings(settings: Settings, wish: plan.Wish) -> Iterator[Finding]:
    """What would stop `up`, on this machine and in the settings; for the doctor."""
    settings = rooted(settings)
    state = settings.state_dir
    facts = probe(state, settings.cache_dir, ports_of(settings, wish), owner(state))
    wish = replace(wish, device=device_of(facts))
    try:
        with identity_of(state) as own:
            prepared = prepare(settings, own, wish)
            yield from doctor.examine(facts, has_engine=prepared.has_engine)
            yield from preflight.room(prepared, facts)
            yield from preflight.examine(prepared)
    except (ProblemError, SettingsError) as problem:
        what, remedy = of_problem(problem)
        yield Finding("settings", Level.STOP, what, remedy)


def of_problem(problem: ProblemError | SettingsError) -> tuple[str, str]:
    """What is wrong and what to do, still to be told in the reader's language."""
    if isinstance(problem, ProblemError):
        return problem.said, problem.todo
    return worded(problem), Said("cli.mend_settings")


def rooted(settings: Settings) -> Settings:
    """With its folders absolute, as the children in other folders need them."""
    return settings.model_copy(
        update={
            "state_dir": settings.state_dir.expanduser().resolve(),
            "cache_dir": settings.cache_dir.expanduser().resolve(),
        }
    )


def ports_of(settings: Settings, wish: plan.Wish) -> tuple[int, ...]:
    """The ports the stack must have for itself."""
    gateway = settings.gateway
    public = gateway.port if wish.port is None else wish.port
    return public, gateway.ops_port, settings.controller.ops_port


def refuse(what: Said, findings: list[Finding]) -> None:
    """Raises ProblemError with all among the findings that would stop the stack."""
    if found := doctor.stops(findings):
        language = spoken()
        lines = [
            f"{named('doctor.subject', f.subject, language)}: {tell(f.text, language)}\n"
            f"    {tell(f.remedy, language)}"
            for f in found
        ]
        faults = "\n  ".join(lines)
        raise ProblemError(
            Said("up.with_faults", what=what, faults=faults), Said("up.doctor_shows")
        )


def write(prepared: Prepared, own: identity.Identity, aside: Aside = PLAIN) -> None:
    """Write what the parts read: `up.yaml`, `cluster-spec.json`, Ray's token; and `up.json`."""
    settings = prepared.settings
    text = yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True), sort_keys=False)
    identity.write_private(own.state / running.SETTINGS, "# Written by `ballast up`.\n" + text)
    how = running.Began(aside.stage, prepared.has_engine)
    identity.write_private(own.state / running.BEGAN, msgspec.json.encode(how).decode())
    if prepared.spec is not None:
        ensure_token(own.state)
        shift(own.state / "ray.log", LOGS_KEPT)  # Ray's daemons write it; some lines a start
        spec = msgspec.json.encode(prepared.spec).decode()
        identity.write_private(own.state / "cluster-spec.json", spec)


def _run(prepared: Prepared, own: identity.Identity, warnings: list[Finding], aside: Aside) -> None:
    settings = prepared.settings
    files = own.state / running.SETTINGS, own.state / "cluster-spec.json"
    inherited = environs.by_part(os.environ, settings, prepared.rows)
    parts = plan.parts(*files, settings, inherited, has_engine=prepared.has_engine)
    parts = [*aside.parts, *parts]
    board = Board([part.name for part in parts], language=spoken())

    def announce(url: str) -> None:
        for line in greeting(prepared, own, url):
            board.tell(line) if isinstance(line, Said) else board.say(line)
        for warning in warnings:
            board.tell(Said("up.warning", text=warning.text))
            board.tell(Said("up.remedy", text=warning.remedy))
        for note in aside.notes:
            board.say(note)

    try:
        asyncio.run(Stack(parts, own.state / "logs", board, announce).run())
    finally:
        board.finish()


def greeting(prepared: Prepared, own: identity.Identity, url: str) -> Iterator[str]:
    """What to copy once the gateway listens."""
    settings, base_url = prepared.settings, f"{url.rstrip('/')}/v1"
    for model in settings.models:
        if model.offerings:
            yield Said("up.overflows", model=model.name, offerings=model.offerings)
    yield Said("up.base_url", url=base_url)
    key = own.demo_key
    if not preflight.knows(settings, key):
        key = "YOUR_KEY"
        yield Said("up.key_of_yours", file=settings.keys_file)
    else:
        yield Said("up.key", key=key)
    yield plan.curl(base_url, key, settings.models[0].name)
    ops = settings.gateway
    where = own.state / identity.ADMIN_KEY
    page = f"http://{ops.ops_host}:{ops.ops_port}/console/"
    yield Said("up.console", url=page, file=where)
    yield Said("up.costs")
    if prepared.has_engine:
        yield Said("up.still_loading")


def free_port(wanted: int) -> int:
    """`wanted`, or any free loopback port where that is taken."""
    if not is_taken(wanted):
        return wanted
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def held(state: Path) -> Iterator[None]:
    """Hold the state folder. Raises ProblemError naming the process that has it."""
    with (state / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProblemError(
                Said("up.running", state=state, pid=owner(state)), Said("up.use_or_stop")
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


def owner(state: Path) -> int | None:
    """The process that holds the state folder now."""
    try:
        with (state / LOCK).open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except (OSError, ValueError):
        return None
    return None
