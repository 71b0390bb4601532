"""Specs, and the command line, environment and Serve config they turn into."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from serving.engine.flags import arguments, environment
from serving.engine.hardware import CpuPlan, cpu_flags, plan_cpu
from serving.engine.phases import phase_of
from serving.engine.serve_rest import read_statuses, serve_config
from serving.engine.spec import EngineSpec, SpecError, cluster_spec, engine_spec

MINIMAL: dict[str, Any] = {
    "model_name": "demo-1b",
    "model_path": "/models/demo",
    "secret_path": "/state/secret",
}
PLAN = CpuPlan("bfloat16", 2)


def spec(**fields: Any) -> EngineSpec:
    return engine_spec(MINIMAL | fields)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"speed": 1}, "speed"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"dtype": "int3"}, "dtype"),
        ({"kv_cache_gib": "2"}, "kv_cache_gib"),
        ({"model_name": "Has/Slash"}, "model_name"),
        ({"memory_fraction": 1.5}, "memory_fraction"),
    ],
)
def test_a_bad_value_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(SpecError, match=named):
        spec(**change)


def test_a_cluster_spec_is_read_from_json() -> None:
    text = json.dumps({"engines": [MINIMAL], "cache_dir": "/cache"})
    assert cluster_spec(text).engines[0].route_prefix == "/m/demo-1b"
    with pytest.raises(SpecError, match="not JSON"):
        cluster_spec("{")
    with pytest.raises(SpecError, match="cache_dir"):
        cluster_spec('{"engines": []}')


def test_the_engine_gets_its_limits() -> None:
    flags = arguments(spec(max_model_len=2048, max_num_queued_reqs=5), PLAN)
    pairs = dict(pairwise(flags))
    assert pairs["--model"] == "/models/demo"
    assert pairs["--served-model-name"] == "demo-1b"
    assert pairs["--max-num-queued-reqs"] == "5"
    assert pairs["--max-model-len"] == "2048"
    assert pairs["--tool-call-parser"] == "hermes"
    assert "--enforce-eager" in flags


def test_parsers_runner_and_overrides_of_a_card_reach_vllm() -> None:
    flags = dict(pairwise(arguments(spec(reasoning_parser="qwen3"), PLAN)))
    assert flags["--reasoning-parser"] == "qwen3"
    assert "--runner" not in flags
    ranks = arguments(spec(runner="pooling", hf_overrides={"is_reranker": True}), PLAN)
    assert dict(pairwise(ranks))["--runner"] == "pooling"
    assert dict(pairwise(ranks))["--hf-overrides"] == '{"is_reranker": true}'
    assert "--tool-call-parser" not in ranks


def test_automatic_dtype_follows_the_plan_and_a_stated_one_does_not() -> None:
    assert "bfloat16" in arguments(spec(), PLAN)
    assert "float32" in arguments(spec(dtype="float32"), PLAN)
    assert "auto" in arguments(spec(device="gpu"), None)


def test_extra_arguments_come_last_and_so_win() -> None:
    assert arguments(spec(extra_args=("--max-num-seqs", "3")), PLAN)[-2:] == ["--max-num-seqs", "3"]


def test_cpu_variables_are_set_for_cpu_engines_only() -> None:
    assert environment(spec(kv_cache_gib=3), PLAN)["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert environment(spec(threads=4), PLAN)["OMP_NUM_THREADS"] == "4"
    assert "OMP_NUM_THREADS" not in environment(spec(device="gpu"), None)


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [({"avx512_bf16"}, "bfloat16"), ({"amx_bf16"}, "bfloat16"), ({"avx2"}, "float32")],
)
def test_dtype_follows_the_cpu(flags: set[str], dtype: str) -> None:
    assert plan_cpu(frozenset(flags), cores=2).dtype == dtype


def test_reads_cpu_flags() -> None:
    text = "processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: other\n"
    assert cpu_flags(text) == {"fpu", "avx2"}
    assert cpu_flags("Features : asimd") == frozenset()


def test_the_serve_config_carries_no_secret_and_leaves_scaling_to_us() -> None:
    config = serve_config((spec(),), proxy_port=9)
    (app,) = config["applications"]
    assert app["route_prefix"] == "/m/demo-1b"
    assert app["external_scaler_enabled"] is True
    assert engine_spec(json.loads(json.dumps(app["args"]))) == spec()
    assert config["http_options"]["host"] == "127.0.0.1"


def details(**app: Any) -> dict[str, Any]:
    target = {"ip": "127.0.0.1", "port": 30000, "name": "SERVE_REPLICA::demo#EngineReplica#a"}
    proxy = {"ip": "127.0.0.1", "port": 8000, "name": "SERVE_PROXY_ACTOR-1"}
    group = {"protocol": "HTTP", "app_name": "demo-1b", "route_prefix": "/m/demo-1b"}
    targets = [target] if app.get("status") == "RUNNING" else [proxy]
    return {
        "applications": {"demo-1b": {"message": "", **app}},
        "target_groups": [{**group, "targets": targets}],
    }


@pytest.mark.parametrize(
    ("status", "replicas", "phase"),
    [
        ("DEPLOYING", [], "replica_starting"),
        ("DEPLOYING", ["STARTING"], "loading"),
        ("RUNNING", ["RUNNING"], "ready"),
        ("DEPLOY_FAILED", [], "failed"),
        ("UNHEALTHY", ["STOPPING"], "unready"),
    ],
)
def test_a_status_becomes_an_event(status: str, replicas: list[str], phase: str) -> None:
    deployments = {"EngineReplica": {"replicas": [{"state": state} for state in replicas]}}
    found = read_statuses(details(status=status, deployments=deployments))["demo-1b"]
    assert phase_of(found) == phase


def test_an_application_that_is_asked_for_no_replica_is_asleep() -> None:
    row: dict[str, Any] = {"replicas": [], "target_num_replicas": 0}
    asleep = details(status="RUNNING", deployments={"EngineReplica": row})
    asleep["target_groups"] = []
    assert phase_of(read_statuses(asleep)["demo-1b"]) == "asleep"
    row["target_num_replicas"] = 1
    assert phase_of(read_statuses(asleep)["demo-1b"]) == "unready"


def test_addresses_are_those_of_replicas_never_of_the_proxy() -> None:
    running = read_statuses(details(status="RUNNING"))["demo-1b"]
    assert running.addresses == ("http://127.0.0.1:30000/m/demo-1b",)
    assert read_statuses(details(status="DEPLOYING"))["demo-1b"].addresses == ()
