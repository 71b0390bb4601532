"""Builds the Serve application of one model: the engine's composition root."""

from typing import Any

from ray import serve

from serving.engine.replica import EngineReplica
from serving.engine.spec import DEPLOYMENT_NAME, EngineSpec, engine_spec


def build(args: dict[str, Any]) -> Any:
    """Serve's builder (`import_path` "serving.engine.app:build"); `args` = EngineSpec's fields."""
    spec = engine_spec(args)
    deployment = serve.deployment(serve.ingress()(EngineReplica))
    return deployment.options(**deployment_options(spec)).bind(args)


def deployment_options(spec: EngineSpec) -> dict[str, Any]:
    """How Serve runs the replicas of `spec`."""
    return {
        "name": DEPLOYMENT_NAME,
        # Serve deploys none only through its external scaler; the supervisor asks for that.
        "num_replicas": max(1, spec.num_replicas),
        # Serve must never be the gate: the engine queues and refuses, in requests and tokens.
        "max_ongoing_requests": spec.max_num_queued_reqs * 4 + 64,
        # Three failed checks replace a replica: a dead core is out after about 6 s.
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 10.0,
        "graceful_shutdown_timeout_s": spec.stream_s_max + 10.0,
        "graceful_shutdown_wait_loop_s": 0.5,
        # A start that fails, fails again: after so many the deployment says why and rests.
        "max_constructor_retry_count": spec.starts_max,
        "ray_actor_options": {"num_cpus": spec.num_cpus, "num_gpus": spec.num_gpus},
    }
