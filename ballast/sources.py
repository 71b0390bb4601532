"""Whether each engine's model can be had, asked before Ray starts: minutes earlier than vLLM would.

A folder is looked at, a hub or store is looked for in the cache and then asked for its list, within
a bound. The fetcher itself answers, in a process of its own, because asking may hang in name
resolution. The embedded model asks nobody.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from ballast import environs
from ballast.doctor import Finding, Level
from ballast.messages import Said
from ballast.prepare import Prepared
from serving.engine.prepare import command, order_of
from serving.engine.spec import EMBEDDED, EngineSpec

ASK_S_MAX = 20.0
"""For one source, Python's start included; a hub that answers needs two."""
SUBJECT = "model"
REMEDY = Said("doctor.mend_source")
FINAL_CODES = (3, 4)


def examine(prepared: Prepared) -> Iterator[Finding]:
    """One finding for each engine's source."""
    if prepared.spec is None:
        return
    environ = environs.by_part(os.environ, prepared.settings, prepared.rows)["engine"]
    for engine in prepared.spec.engines:
        yield judge(engine, prepared.spec.cache_dir, environ, ASK_S_MAX)


def hub_ids(prepared: Prepared) -> list[str]:
    """Sources that a hub or store may have to be asked for."""
    engines = prepared.spec.engines if prepared.spec else ()
    return [e.model_path for e in engines if _is_remote(e.model_path)]


def _is_remote(source: str) -> bool:
    is_path = source.startswith(("/", ".", "~", "pvc:")) or Path(source).is_dir()
    return source != EMBEDDED and not is_path


def judge(engine: EngineSpec, cache_dir: str, environ: Mapping[str, str], wait_s: float) -> Finding:
    """Whether one engine could load its source; `environ` is what the engine would inherit. Asks
    for `wait_s` at most."""
    source = engine.model_path
    asked = [*command(order_of(engine, cache_dir, "bfloat16"), engine), "--check"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            asked, env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=wait_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        late = Said("doctor.weights", source=source, seconds=f"{wait_s:.0f}")
        return Finding(SUBJECT, Level.STOP, late, REMEDY)
    if done.returncode == 0:
        return Finding(SUBJECT, Level.OK, done.stdout.strip())
    said = done.stderr.strip()
    fault = said if done.returncode in FINAL_CODES else raised(said)
    remedy = Said("doctor.make_install") if source == EMBEDDED else REMEDY
    return Finding(SUBJECT, Level.STOP, f"{source}: {fault}", remedy)


def raised(traceback: str) -> str:
    """The line of a traceback that names the exception."""
    lines = traceback.strip().splitlines()
    named = [line for line in lines if re.match(r"[A-Za-z_][\w.]*: ", line)]
    return (named or lines or [Said("problem.said_nothing")])[-1][:300]
