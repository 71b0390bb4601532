"""Releases that tests render: values of each size of deployment, and how they are laid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Values = dict[str, Any]


def laid(base: Values, more: Values) -> Values:
    """`base` with `more` over it, as Helm lays a second values file over a first."""
    found = dict(base)
    for key, value in more.items():
        is_both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = laid(found[key], value) if is_both else value
    return found


POC: Values = {
    "settings": {
        "models": [{"name": "chat", "offerings": ["deepseek/deepseek-flash"]}],
        "providers": [{"id": "deepseek"}, {"id": "openai"}],
        "tenants": [{"id": "acme", "residency": "mainland"}],
    },
    "secrets": {"providers": "provider-keys"},
    "networkPolicy": {"egress": {"mode": "open"}},
}
BETA = laid(POC, {
    "postgresql": {"url": "postgresql://ballast@pg.db:5432/ballast", "secret": "pg"},
    "redis": {"url": "rediss://redis.db:6379/0", "secret": "redis", "passwordKey": "password"},
    "gateway": {"replicas": 2},
    "networkPolicy": {"databases": [{"ipBlock": {"cidr": "10.0.8.0/24"}}]},
})  # fmt: skip
GROUP: Values = {
    "name": "h100-reserved", "terms": "reserved", "gpu": {"kind": "h100-80", "count": 8},
    "replicas": 1, "minReplicas": 0, "maxReplicas": 4,
    "resources": {"cpu": "64", "memory": "512Gi"},
}  # fmt: skip
SPOT = {
    **GROUP, "name": "h100-spot", "terms": "spot", "replicas": 0,
    "gpu": {"kind": "h100-80", "count": 1},
    "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
    "nodeSelector": {"pool": "spot"}, "sharedMemory": "32Gi",
    "cache": {"kind": "hostPath", "path": "/mnt/nvme/ballast"},
}  # fmt: skip
SCALE = laid(BETA, {
    "engines": {
        "pool": {"jurisdiction": "cn", "operator": "acme", "onPremises": True},
        "ray": {
            "enabled": True,
            "gcs": {"redisAddress": "redis.db:6379", "secret": "redis"},
            "groups": [GROUP, SPOT],
        },
    },
})  # fmt: skip
EXTERNAL = laid(POC, {
    "engines": {
        "pool": {"jurisdiction": "us", "operator": "runpod"},
        "external": [
            {"model": "chat", "url": "http://10.99.0.2:30000/m/chat", "via": "wireguard"},
            {"model": "chat", "url": "https://gpu.example.com:8443/m/chat", "via": "mtls",
             "cidr": "203.0.113.7/32", "limit": 64},
        ],
        "mtls": {"secret": "engine-mtls", "image": {"tag": "v1.40.0"}},
    },
})  # fmt: skip
SHAPES = {"poc": POC, "beta": BETA, "scale": SCALE, "external": EXTERNAL}
EXAMPLES = Path(__file__).parent / "helm" / "examples"
