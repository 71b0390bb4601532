"""What `ballast up` will run, as values: settings in, effective settings and commands out.

Starts nothing and writes nothing, so that the whole plan can be tested.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ballast.identity import DEMO, OWNER, Identity
from ballast.messages import Said
from ballast.problem import ProblemError, worded
from models.provider import Provider
from serving.engine.card_spec import fields_of_cards
from serving.engine.spec import ClusterSpec, EngineSpec, engine_spec
from serving.engine.weights.errors import WeightsError
from serving.engine.weights.sources import parse
from serving.records import Role
from serving.settings import EXIT_CODE, Administrator, Engine, Model, Settings, TenantSettings

DEMO_MODEL = "smollm2-135m-instruct"
"""Name under which the embedded model is served."""
ENGINES_PART = {"name", "source", "sha256", "base"}
"""What of an adapter its engine is told; the rest is routing's."""
DRAIN_S_MAX = 8.0
"""On one machine Ctrl-C is a person waiting; open streams get this long."""


@dataclass(frozen=True, slots=True)
class Part:
    """One child process of the stack."""

    name: str
    argv: tuple[str, ...]
    stop_s: float
    """From SIGTERM to SIGKILL."""
    is_essential: bool = False
    """Without it the stack stops; without the others it goes on and says so."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """All that it inherits; holds secrets."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for."""

    model: str = ""
    port: int | None = None
    has_engine: bool = True
    device: str = "cpu"
    dashboard_port: int = 8265


def choose_models(
    settings: Settings, wish: Wish, rows: Mapping[str, Provider]
) -> tuple[Model, ...]:
    """The models to serve: those configured, or the one asked for, or the embedded one."""
    if wish.model:
        named = [m for m in settings.models if wish.model in (m.name, *m.aliases)]
        if named:
            return tuple(named)
        if wish.model not in ("embedded", DEMO_MODEL):
            return (_from_source(wish.model),)
    elif settings.models:
        return settings.models
    return (
        Model(
            name=DEMO_MODEL,
            engine=Engine(),
            offerings=tuple(cheapest(rows[a.id]) for a in settings.providers),
        ),
    )


def cheapest(row: Provider) -> str:
    """`provider/model` that bridges the demo model: the lowest output price known."""
    priced = [
        m for m in row.models if m.context_tokens and (m.free or m.output_per_mtok is not None)
    ]
    if not priced:
        raise ProblemError(
            Said("outlook.unpriced", provider=repr(row.id)),
            Said("outlook.name_in_config"),
            exit_code=EXIT_CODE,
        )
    best = min(priced, key=lambda m: (m.output_per_mtok or 0, m.id))
    return f"{row.id}/{best.id}"


def _from_source(source: str) -> Model:
    folder = Path(source).expanduser().resolve()
    is_path = source.startswith(("/", ".", "~")) or folder.is_dir()
    try:
        parse(str(folder) if is_path else source)
    except WeightsError as error:
        raise ProblemError(
            Said("outlook.no_model", source=repr(source), error=worded(error)),
            Said("outlook.one_of_these"),
            exit_code=EXIT_CODE,
        ) from None
    # Until its own profile is measured it is predicted like the demo's engine on this machine.
    engine = Engine(source=str(folder) if is_path else source)
    last = re.split("[/:]", source.partition("@")[0].rstrip("/"))[-1]
    name = folder.name if is_path else last
    return Model(name=name.lower(), profile="cpu-embedded", engine=engine)


def check_providers(settings: Settings, rows: Mapping[str, Provider]) -> None:
    """Raises ProblemError for a provider that has no row."""
    for access in settings.providers:
        if access.id not in rows:
            raise ProblemError(
                Said("outlook.unknown_provider", provider=repr(access.id), known=sorted(rows)),
                Said("outlook.mend_id"),
                exit_code=EXIT_CODE,
            )


def effective(
    settings: Settings, models: Sequence[Model], identity: Identity, wish: Wish, token_file: Path
) -> Settings:
    """The settings all parts of this stack run with."""
    gateway: dict[str, Any] = {"drain_s": min(settings.gateway.drain_s, DRAIN_S_MAX)}
    if wish.port is not None:
        gateway["port"] = wish.port
    fleet: dict[str, Any] = {"secret_file": settings.fleet.secret_file or identity.secret_file}
    if wish.has_engine:
        fleet["serve_url"] = f"http://127.0.0.1:{wish.dashboard_port}"
        fleet["ray_token_file"] = token_file
    return settings.model_copy(
        update={
            "deployment_id": settings.deployment_id or identity.deployment_id,
            "pepper_file": settings.pepper_file or identity.pepper_file,
            "keys_file": settings.keys_file or identity.keys_file,
            "gateway": settings.gateway.model_copy(update=gateway),
            "fleet": settings.fleet.model_copy(update=fleet),
            "models": tuple(models),
        }
    )


def with_demo_tenant(settings: Settings, rows: Mapping[str, Provider]) -> Settings:
    """Add the demo tenant, whose data may go where the configured providers are, no further."""
    if any(tenant.id == DEMO for tenant in settings.tenants):
        return settings
    where = tuple(sorted({a.jurisdiction or rows[a.id].jurisdiction for a in settings.providers}))
    tenant = TenantSettings(
        id=DEMO, residency="named" if where else "premises", jurisdictions=where
    )
    return settings.model_copy(update={"tenants": (*settings.tenants, tenant)})


def with_owner(settings: Settings, hmac: bytes) -> Settings:
    """Add the owner as an administrator, unless the settings name their own."""
    if any(one.id == OWNER for one in settings.administrators):
        return settings
    owner = Administrator(id=OWNER, role=Role.ADMIN, hmac=hmac.hex())
    return settings.model_copy(update={"administrators": (*settings.administrators, owner)})


def cluster(settings: Settings, wish: Wish) -> ClusterSpec:
    """The engines to start, as `serving.engine.cluster` wants them."""
    secret = settings.fleet.secret_file
    assert secret is not None
    of_cards = fields_of_cards(settings.models, wish.device, settings.cards_dir)
    return ClusterSpec(
        engines=tuple(
            _engine(
                model,
                settings.weights,
                secret,
                of_cards.get(model.name, {}),
                wish.device,
            )
            for model in settings.models
            if model.engine is not None
        ),
        cache_dir=str(settings.cache_dir),
        dashboard_port=wish.dashboard_port,
    )


def _engine(
    model: Model,
    weights: Mapping[str, Any],
    secret: Path,
    of_card: Mapping[str, Any],
    device: str,
) -> EngineSpec:
    """One engine's spec: settings, over them what its card decides, last what the user adds.
    Raises SpecError naming a field that is unknown or wrong."""
    engine = model.engine
    assert engine is not None
    adapters = [a.model_dump(include=ENGINES_PART) for a in model.adapters if a.source]
    # Adapters that come later need room too.
    room: dict[str, Any] = {"lora": {}} if model.adapters else {}
    return engine_spec(
        {
            "model_name": model.name,
            "model_path": engine.source,
            "secret_path": str(secret),
            "device": "gpu" if device == "gpu" else "cpu",
            "max_model_len": engine.max_model_len,
            "max_num_seqs": engine.max_num_seqs,
            "max_num_queued_reqs": engine.max_num_queued_reqs,
            "max_num_queued_tokens": engine.max_num_queued_tokens,
            "kv_cache_gib": math.ceil(engine.kv_cache_gib),
            "watchdog_s": engine.watchdog_s,
            "num_gpus": 1.0 if device == "gpu" else 0.0,
            "adapters": adapters,
            "weights": weights,
            **room,
            **of_card,
            "extra_args": (*of_card.get("extra_args", ()), *engine.args),
            **engine.spec,
        }
    )


def parts(
    settings_file: Path, spec_file: Path, settings: Settings,
    environs: Mapping[str, Mapping[str, str]], *, has_engine: bool,
) -> list[Part]:  # fmt: skip
    """The children in the order they start; they stop in the order gateway, controller, engine."""
    python, config = sys.executable, str(settings_file)
    gateway = (python, "-m", "serving.app", "--config", config)
    drain_s = settings.gateway.drain_s
    found = [Part("gateway", gateway, drain_s + 2, True, environs["gateway"])]
    if has_engine:
        where = ("--state", str(settings.state_dir), "--spec", str(spec_file))
        engine = (python, "-m", "serving.engine.cluster", "up", *where)
        found.append(Part("engine", engine, 13.0, False, environs["engine"]))
    controller = (python, "-m", "autoscale.app", "--config", config)
    found.append(Part("controller", controller, 3.0, False, environs["controller"]))
    return found


def curl(base_url: str, key: str, model: str) -> str:
    """One line to copy."""
    body = f'{{"model":"{model}","messages":[{{"role":"user","content":"What is the capital of France?"}}],"temperature":0}}'  # noqa: E501
    return (
        f"curl {base_url}/chat/completions -H 'Authorization: Bearer {key}'"
        f" -H 'Content-Type: application/json' -d '{body}'"
    )
