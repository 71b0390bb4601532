"""`ballast up`: checks, writes what the parts read, runs the stack."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import yaml

from ballast import doctor, identity, plan
from ballast.board import Board
from ballast.probe import Facts, is_taken, probe
from ballast.problem import ProblemError
from ballast.stack import Stack
from models import provider
from serving.engine.ray_head import ensure_token
from serving.engine.spec import SpecError
from serving.settings import EXIT_CODE, Settings

LOCK = "up.lock"


def up(settings: Settings, wish: plan.Wish) -> None:
    """Run the stack in the foreground until a signal. Raises ProblemError."""
    state = settings.state_dir.expanduser().resolve()
    settings = settings.model_copy(
        update={"state_dir": state, "cache_dir": settings.cache_dir.expanduser().resolve()}
    )
    own = identity.ensure(state)
    with held(state):
        facts = probe(state, settings.cache_dir, ports_of(settings, wish), None)
        check(facts, has_engine=wish.has_engine)
        wish = replace(
            wish,
            device="gpu" if "vllm" in facts.packages else "cpu",
            dashboard_port=free_port(wish.dashboard_port),
        )
        settings = prepare(settings, own, wish)
        _run(settings, own, wish)


def ports_of(settings: Settings, wish: plan.Wish) -> tuple[int, ...]:
    """The ports the stack must have for itself."""
    gateway = settings.gateway
    public = gateway.port if wish.port is None else wish.port
    return public, gateway.ops_port, settings.controller.ops_port


def check(facts: Facts, *, has_engine: bool) -> None:
    """Raises ProblemError with all that would stop the stack."""
    found = doctor.stops(doctor.examine(facts, has_engine=has_engine))
    if found:
        lines = [f"{f.subject}: {f.text}\n    {f.remedy}" for f in found]
        raise ProblemError(
            "this machine is not ready\n  " + "\n  ".join(lines),
            "`ballast doctor` shows everything it looked at",
        )


def prepare(settings: Settings, own: identity.Identity, wish: plan.Wish) -> Settings:
    """Write `up.yaml` and `cluster-spec.json`; the effective settings. Raises ProblemError."""
    try:
        folders = (provider.FOLDER, *([settings.providers_dir] if settings.providers_dir else ()))
        rows = provider.load(*folders)
    except provider.ProviderFileError as error:
        raise ProblemError(str(error), "mend that file", exit_code=EXIT_CODE) from None
    plan.check_providers(settings, rows)
    models = plan.choose_models(settings, wish, rows)
    token = ensure_token(own.state) if wish.has_engine else own.state / "ray_token"
    settings = plan.effective(settings, models, own, wish, token)
    settings = plan.with_demo_tenant(settings, rows)
    text = yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True), sort_keys=False)
    identity.write_private(own.state / "up.yaml", "# Written by `ballast up`.\n" + text)
    if wish.has_engine:
        try:
            spec = plan.cluster(settings, wish)
        except SpecError as error:
            raise ProblemError(
                str(error), "mend `models` in --config or --model", exit_code=EXIT_CODE
            ) from None
        identity.write_private(own.state / "cluster-spec.json", msgspec.json.encode(spec).decode())
    return settings


def _run(settings: Settings, own: identity.Identity, wish: plan.Wish) -> None:
    has_engine = wish.has_engine and any(model.engine for model in settings.models)
    files = own.state / "up.yaml", own.state / "cluster-spec.json"
    parts = plan.parts(*files, settings, has_engine)
    board = Board([part.name for part in parts])

    def announce(url: str) -> None:
        base_url = f"{url.rstrip('/')}/v1"
        for model in settings.models:
            if model.offerings:
                board.say(f"{model.name} overflows to {', '.join(model.offerings)}")
        board.say(f"base URL  {base_url}")
        board.say(f"key       {own.demo_key}")
        board.say(plan.curl(base_url, own.demo_key, settings.models[0].name))
        if has_engine:
            board.say("the engine is still loading; until it is ready, answers say when to return")

    try:
        asyncio.run(Stack(parts, own.state / "logs", board, announce).run())
    finally:
        board.finish()


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
                f"`ballast up` runs already on {state}, as process {owner(state)}",
                "use it, or stop it with Ctrl-C there",
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
