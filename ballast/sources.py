"""Whether each engine's model can be had, asked before Ray starts: minutes earlier than vLLM would.

A folder is looked at, a hub id is looked for in the cache and then on the hub, within a bound. The
embedded model asks nobody.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ballast import environs
from ballast.doctor import Finding, Level
from ballast.prepare import Prepared
from serving.engine import hub, weights
from serving.engine.spec import EMBEDDED

HUB_S_MAX = 20.0
"""For one hub id, the library's import included; a hub that answers needs two."""
SUBJECT = "model"


def examine(prepared: Prepared) -> Iterator[Finding]:
    """One finding for each engine's source."""
    if prepared.spec is None:
        return
    if hub.uses_modelscope(os.environ.get(hub.USE_MODELSCOPE)) and not hub.has_modelscope():
        yield Finding(SUBJECT, Level.STOP, *hub.MODELSCOPE_MISSING.split("; ", 1))
        return
    environ = environs.by_part(os.environ, prepared.settings, prepared.rows)["engine"]
    for engine in prepared.spec.engines:
        is_dummy = "dummy" in " ".join(engine.extra_args)  # --load-format dummy: no weights wanted
        yield judge(engine.model_path, environ, is_dummy=is_dummy)


def hub_ids(prepared: Prepared) -> list[str]:
    """Sources that a hub may have to be asked for."""
    engines = prepared.spec.engines if prepared.spec else ()
    return [e.model_path for e in engines if _is_hub_id(e.model_path)]


def _is_hub_id(source: str) -> bool:
    is_path = source.startswith(("/", ".", "~")) or Path(source).is_dir()
    return source != EMBEDDED and not is_path


def judge(source: str, environ: Mapping[str, str], *, is_dummy: bool = False) -> Finding:
    """Whether one engine could load its source; `environ` is what the engine would inherit."""
    if source == EMBEDDED:
        try:
            return Finding(SUBJECT, Level.OK, f"embedded: {weights.find_embedded_gguf().name}")
        except weights.WeightsError as error:
            return Finding(SUBJECT, Level.STOP, str(error), "`make install` does")
    if not _is_hub_id(source):
        folder = Path(source).expanduser()
        fault = weights.checkpoint_fault(folder)
        if fault and not (is_dummy and (folder / "config.json").is_file()):
            remedy = "name a folder with config.json and weights, as a hub's download makes it"
            return Finding(SUBJECT, Level.STOP, fault, remedy)
        return Finding(SUBJECT, Level.OK, f"{folder}")
    return ask_hub(source, environ, HUB_S_MAX)


def ask_hub(hub_id: str, environ: Mapping[str, str], wait_s: float) -> Finding:
    """Whether a hub id is cached or known to the hub; asks for `wait_s` at most."""
    remedy = (
        "mend `--model` or `engine.source`: owner/name as the hub writes it, or a folder; behind a"
        " slow network set HF_ENDPOINT to a mirror"
    )
    if hub_id.count("/") != 1:
        return Finding(SUBJECT, Level.STOP, f"{hub_id!r} is neither folder nor hub id", remedy)
    command = [sys.executable, "-m", "serving.engine.hub", hub_id]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=wait_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode().strip() if isinstance(late.stdout, bytes) else ""
        why = f"{said or 'the hub'} did not answer within {wait_s:.0f} s"
        return Finding(SUBJECT, Level.STOP, f"{hub_id}: {why}", remedy)
    endpoint, fault, *_ = [*done.stdout.splitlines(), "", ""]
    if done.returncode == 0:
        return Finding(SUBJECT, Level.OK, f"{hub_id}, cached or known to {endpoint}")
    if done.returncode == hub.EXIT_UNAVAILABLE:
        return Finding(SUBJECT, Level.STOP, f"{hub_id} at {endpoint}: {fault}", remedy)
    why = f"cannot ask {endpoint}: {raised(done.stderr)}"
    return Finding(SUBJECT, Level.STOP, f"{hub_id}: {why}", remedy)


def raised(traceback: str) -> str:
    """The line of a traceback that names the exception."""
    lines = traceback.strip().splitlines()
    named = [line for line in lines if re.match(r"[A-Za-z_][\w.]*: ", line)]
    return (named or lines or ["it ended without a word"])[-1][:300]
