"""The chart's own keys: types, ranges, choices, nothing unknown. Values only."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "maxLength": 1000}
YES_NO: Schema = {"type": "boolean"}
NAME: Schema = {
    "type": "string",
    "maxLength": 253,
    "pattern": "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$",
}
"""Of a Kubernetes object; empty: none."""
KEY: Schema = {"type": "string", "maxLength": 253, "pattern": "^[A-Za-z0-9._-]*$"}
"""Of an entry in a Secret."""
CIDR: Schema = {
    "type": "string",
    "pattern": "^([0-9]{1,3}\\.){3}[0-9]{1,3}/([0-9]|[12][0-9]|3[0-2])$",
}
QUANTITY: Schema = {
    "type": ["string", "integer", "number"],
    "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
}
COUNTRY: Schema = {"type": "string", "pattern": "^[a-z]{2}$"}
URL: Schema = {"type": "string", "pattern": "^(https?://[^\\s?#@]+)?$"}
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION: Schema = {"type": "string", "pattern": "^[1-9][0-9]*(s|m)$"}
FREE: Schema = {"type": "object", "description": "An object of Kubernetes' own, checked there."}


def group(*required: str, **properties: Schema) -> Schema:
    """An object that knows these keys only."""
    found: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return found | ({"required": list(required)} if required else {})


def whole(least: int, most: int = 1_000_000) -> Schema:
    """An integer of a range."""
    return {"type": "integer", "minimum": least, "maximum": most}


def choice(*words: str) -> Schema:
    """One of these."""
    return {"type": "string", "enum": list(words)}


def many(of: Schema, most: int = 256) -> Schema:
    """A list."""
    return {"type": "array", "items": of, "maxItems": most}


IMAGE = group(
    registry=TEXT, repository={"type": "string", "pattern": "^[a-z0-9][a-z0-9._/-]*$"},
    tag={"type": "string", "pattern": "^([A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$"},
    digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
)  # fmt: skip
RESOURCES = group(
    "requests", "limits",
    requests={"type": "object", "additionalProperties": QUANTITY, "required": ["cpu", "memory"]},
    limits={"type": "object", "additionalProperties": QUANTITY, "required": ["cpu", "memory"]},
)  # fmt: skip
TOLERATION = group(
    key=TEXT, operator=choice("Exists", "Equal"), value=TEXT,
    effect=choice("NoSchedule", "PreferNoSchedule", "NoExecute"),
    tolerationSeconds=whole(0),
)  # fmt: skip
PLACING: dict[str, Schema] = {
    "nodeSelector": LABELS, "tolerations": many(TOLERATION), "affinity": FREE,
    "priorityClassName": NAME,
}  # fmt: skip
PODS = PLACING | {"podAnnotations": LABELS, "podLabels": LABELS}
SSLMODE = choice("disable", "require", "verify-ca", "verify-full")
RESIDENCY = choice("premises", "mainland", "named", "anywhere")
POOL = group(
    "jurisdiction", "operator", "onPremises",
    jurisdiction=COUNTRY, operator=TEXT | {"minLength": 1}, onPremises=YES_NO,
)  # fmt: skip
GROUP = group(
    "name", "terms", "replicas", "minReplicas", "maxReplicas", "resources",
    name={"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$"},
    terms=choice("reserved", "on_demand", "spot"),
    gpu=group(
        "kind", "count",
        kind={"type": "string", "pattern": "^[a-z0-9][a-z0-9.-]{0,40}$"},
        count=whole(1, 16),
        resource={"type": "string", "pattern": "^[a-z0-9.-]+/[a-z0-9.-]+$"},
    ),
    replicas=whole(0, 1000), minReplicas=whole(0, 1000), maxReplicas=whole(0, 1000),
    resources={"type": "object", "additionalProperties": QUANTITY, "required": ["cpu", "memory"]},
    sharedMemory=QUANTITY,
    cache=group(
        "kind",
        kind=choice("hostPath", "pvc", "emptyDir"),
        path={"type": "string", "pattern": "^/[A-Za-z0-9._/-]+$"}, claim=NAME, size=QUANTITY,
    ),
    pool=POOL,
    **PLACING,
)  # fmt: skip
EXTERNAL = group(
    "model", "url", "via",
    model=TEXT,
    url={"type": "string", "pattern": "^https?://[^@/?#\\s]+:[0-9]{1,5}/m/[a-z0-9][a-z0-9._-]*$"},
    limit=whole(1, 100_000), via=choice("wireguard", "mtls", "network"), cidr=CIDR,
    pool=POOL,
)  # fmt: skip


def _identity() -> Schema:
    return group(
        "name", "deploymentId", "secret", "pepper",
        name=NAME | {"minLength": 1}, deploymentId=KEY | {"minLength": 1},
        secret=KEY | {"minLength": 1}, pepper=KEY | {"minLength": 1},
        auditKey=KEY, apiKeys=KEY, reviewKey=KEY, canaryKey=KEY, hookKey=KEY,
    )  # fmt: skip


def _stores() -> dict[str, Schema]:
    plain = "^({}://[^\\s:@/]*(@[^\\s@:/]+)?(:[0-9]+)?(/[^\\s]*)?)?$"
    postgres: Schema = {"type": "string", "pattern": "^(postgres(ql)?://([^\\s:@/]+@)?[^\\s@]+)?$"}
    redis: Schema = {"type": "string", "pattern": plain.format("rediss?")}
    return {
        "postgresql": group(
            url=postgres, urlKey=KEY, secret=NAME, passwordKey=KEY, sslmode=SSLMODE, caKey=KEY,
            migrations=group(enabled=YES_NO, url=postgres, secret=NAME, passwordKey=KEY),
        ),
        "redis": group(url=redis, urlKey=KEY, secret=NAME, passwordKey=KEY, caKey=KEY),
    }  # fmt: skip


def _gateway() -> Schema:
    return group(
        replicas=whole(1, 1000),
        autoscaling=group(
            enabled=YES_NO, minReplicas=whole(1, 1000), maxReplicas=whole(1, 1000),
            cpuPercent=whole(1, 100), openStreams=whole(0),
        ),
        podDisruptionBudget=group(enabled=YES_NO, maxUnavailable=whole(1, 1000)),
        topologySpread=group(
            enabled=YES_NO, whenUnsatisfiable=choice("ScheduleAnyway", "DoNotSchedule")
        ),
        drain=group(
            streamSeconds=whole(0, 86_400), preStopSeconds=whole(1, 600),
            ledgerSeconds=whole(0, 600),
        ),
        state=group(kind=choice("emptyDir", "pvc"), size=QUANTITY, storageClass=NAME),
        resources=RESOURCES,
        service=group(
            type=choice("ClusterIP", "NodePort", "LoadBalancer"), port=whole(1, 65_535),
            annotations=LABELS, loadBalancerClass=TEXT, loadBalancerSourceRanges=many(CIDR),
        ),
        **PODS,
    )  # fmt: skip


def _engines() -> Schema:
    head = group("resources", resources=RESOURCES, **PLACING)
    return group(
        pool=group(
            jurisdiction={"type": "string", "pattern": "^([a-z]{2})?$"}, operator=TEXT,
            onPremises=YES_NO,
        ),
        external=many(EXTERNAL),
        mtls=group(image=IMAGE, secret=NAME, resources=RESOURCES),
        ray=group(
            enabled=YES_NO,
            version={"type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+$"},
            drainSeconds=whole(0, 86_400),
            startSeconds=whole(30, 7200),
            gcs=group(faultTolerant=YES_NO, redisAddress=TEXT, secret=NAME, passwordKey=KEY),
            head=head,
            groups=many(GROUP, 64),
        ),
    )  # fmt: skip


def _peer() -> Schema:
    return {"type": "object", "minProperties": 1} | {
        "additionalProperties": False,
        "properties": {"ipBlock": FREE, "namespaceSelector": FREE, "podSelector": FREE},
    }


def _network() -> Schema:
    peer = _peer()
    rule = group(to=many(peer), ports=many(FREE))
    return group(
        enabled=YES_NO,
        egress=group(
            mode=choice("", "proxy", "cilium", "cidr", "open"),
            proxy=group(
                url=URL, cidr={"type": "string", "pattern": f"^({CIDR['pattern'][1:-1]})?$"}
            ),
            cidrs={"type": "object", "additionalProperties": many(CIDR)},
            residency=RESIDENCY, jurisdictions=many(COUNTRY),
        ),
        publicFrom=many(peer), monitoringNamespaces=many(NAME), databases=many(peer),
        dnsNamespace=NAME, apiServerCidrs=many(CIDR), engineEgress=many(rule),
    )  # fmt: skip


def _edges() -> dict[str, Schema]:
    host: Schema = {"type": "string", "pattern": "^([a-z0-9*]([a-z0-9.-]*[a-z0-9])?)?$"}
    return {
        "ingress": group(
            enabled=YES_NO, className=NAME, host=host, tlsSecret=NAME, annotations=LABELS
        ),
        "gatewayApi": group(
            enabled=YES_NO, hostnames=many(host),
            parent=group(name=NAME, namespace=NAME, sectionName=NAME),
            className=NAME, tlsSecret=NAME,
        ),
        "serviceAccount": group(annotations=LABELS),
        "monitoring": group(
            serviceMonitor=group(enabled=YES_NO, interval=DURATION, labels=LABELS),
            podMonitor=group(enabled=YES_NO, interval=DURATION, labels=LABELS),
            rules=group(enabled=YES_NO, labels=LABELS),
            dashboards=group(enabled=YES_NO, labels=LABELS),
            alertmanager=group(enabled=YES_NO, labels=LABELS),
        ),
        "preflight": group(
            enabled=YES_NO, providers=YES_NO, deadlineSeconds=whole(10, 3600)
        ),
    }  # fmt: skip


def _watching() -> dict[str, Schema]:
    peer = _peer()
    robot = group(
        "name", "kind", "urlKey",
        name={"type": "string", "minLength": 1, "maxLength": 60},
        kind=choice("feishu", "dingtalk", "wecom"),
        urlKey=KEY | {"minLength": 1}, secretKey=KEY | {"minLength": 1},
        language=choice("zh", "en"),
        severities=many(choice("page", "ticket", "note"), 3),
        host={"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"},
    )  # fmt: skip
    return {
        "alerts": group(
            enabled=YES_NO, secret=NAME | {"minLength": 1}, tokenKey=KEY | {"minLength": 1},
            robots=many(robot, 32), repeatSeconds=whole(0, 604_800), alertmanagers=many(peer),
            resources=RESOURCES, **PODS,
        ),
        "tracing": group(collector=many(peer), secret=NAME, tokenKey=KEY),
    }  # fmt: skip


def values(settings: Schema) -> Schema:
    """The whole; `settings` is the settings file's own schema."""
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Ballast"} | group(
        **{"global": group(imageRegistry=TEXT, imagePullSecrets=many(NAME))},
        fullnameOverride=NAME,
        images=group(
            gateway=IMAGE, engine=IMAGE, pullPolicy=choice("Always", "IfNotPresent", "Never"),
            requireDigests=YES_NO,
        ),
        settings=settings,
        secrets=group(
            identity=_identity(), providers=NAME, ray=NAME,
            hub=group(name=NAME, huggingface=KEY, modelscope=KEY),
        ),
        mirrors=group(
            hub=choice("huggingface", "modelscope"), huggingfaceUrl=URL, modelscopeUrl=URL,
            packages=URL,
        ),
        **_stores(),
        gateway=_gateway(),
        controller=group(enabled=YES_NO, replicas=whole(1, 5), resources=RESOURCES, **PODS),
        engines=_engines(),
        networkPolicy=_network(),
        **_edges(),
        **_watching(),
    )  # fmt: skip
