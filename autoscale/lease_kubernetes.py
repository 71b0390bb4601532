"""The lease of a cluster: a `Lease` object, taken and renewed under its resourceVersion.

Whether another's lease is over is told by our own clock: it must stand unchanged for its whole
length while we look, so clocks that differ between hosts do no harm. Ours counts from before the
renewal was sent, less a margin.

The token stands in an annotation (`leaseTransitions` has 32 bits and begins anew when somebody
deletes the object).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from autoscale.cluster_api import AWAY, ApiError, ClusterApi
from autoscale.lease import MARGIN, Denied, Grant, Granted, next_token

GROUP = "/apis/coordination.k8s.io/v1"
COUNTED = "ballast/lease-token"
CALL_S = 3.0
MISSING, CONFLICT = 404, 409


class KubernetesLease:
    """One named Lease of one namespace."""

    def __init__(
        self, api: ClusterApi, name: tuple[str, str], holder: str, seconds: float,
        clocks: tuple[Callable[[], float], Callable[[], int]],
    ) -> None:  # fmt: skip
        namespace, self._name = name
        self._api = api
        self._holder = holder
        self._seconds = seconds
        self._clock, self._utc_ms = clocks
        self._folder = f"{GROUP}/namespaces/{namespace}/leases"
        self._seen: tuple[str, float] = ("", 0.0)
        """The version seen last, and since when it stands."""
        self._grant: Granted | None = None

    async def ask(self) -> Grant:
        """See `Lease`."""
        at_s = self._clock()
        try:
            lease = await self._read()
            given = await self._write(lease, at_s)
        except AWAY as error:
            return self._as_before(f"the Kubernetes API: {type(error).__name__}: {error}"[:300])
        self._grant = given if isinstance(given, Granted) else None
        return given

    async def release(self) -> None:
        """See `Lease`."""
        if self._grant is None:
            return
        self._grant = None
        try:
            lease = await self._read()
            if lease is not None and _spec(lease).get("holderIdentity") == self._holder:
                body = self._body(lease, _token(lease), {"holderIdentity": ""})
                await self._api.replace(f"{self._folder}/{self._name}", body, CALL_S)
        except AWAY:
            return  # it runs out by itself

    def _as_before(self, reason: str) -> Grant:
        """An API that is away takes nothing from us before the lease runs out."""
        if self._grant is not None and self._clock() < self._grant.until_s:
            return self._grant
        self._grant = None
        return Denied(reason)

    async def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._api.get(f"{self._folder}/{self._name}", CALL_S)
        except ApiError as error:
            if error.status == MISSING:
                return None
            raise
        return found

    async def _write(self, lease: dict[str, Any] | None, at_s: float) -> Grant:
        is_ours = lease is not None and _spec(lease).get("holderIdentity") == self._holder
        if lease is not None and not is_ours and (busy := self._busy(lease, at_s)):
            return Denied(busy)
        before = 0 if lease is None else _token(lease)
        # Its own lease that ran out meanwhile is taken anew: others may have thought it free.
        is_kept = is_ours and self._grant is not None and at_s < self._grant.until_s
        token = before if is_kept and before else next_token(before, self._utc_ms())
        body = self._body(lease, token, {"holderIdentity": self._holder})
        try:
            if lease is None:
                await self._api.create(self._folder, body, CALL_S)
            else:
                await self._api.replace(f"{self._folder}/{self._name}", body, CALL_S)
        except ApiError as error:
            if error.status == CONFLICT:
                return Denied("another controller took the lease at the same moment")
            raise
        return Granted(token, at_s + self._seconds * (1 - MARGIN))

    def _busy(self, lease: dict[str, Any], at_s: float) -> str:
        """Why somebody else's lease may not be taken; empty if it may."""
        spec = _spec(lease)
        holder = spec.get("holderIdentity") or ""
        version = str(lease["metadata"].get("resourceVersion", ""))
        if version != self._seen[0]:
            self._seen = version, at_s
        lasts_s = float(spec.get("leaseDurationSeconds") or self._seconds)
        is_over = not holder or at_s - self._seen[1] > lasts_s
        return "" if is_over else f"{holder} holds the lease {self._name}"

    def _body(
        self, lease: dict[str, Any] | None, token: int, spec: Mapping[str, Any]
    ) -> dict[str, Any]:
        now = datetime.fromtimestamp(self._utc_ms() / 1e3, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = {} if lease is None else _spec(lease)
        is_new = old.get("holderIdentity") != spec["holderIdentity"]
        metadata: dict[str, Any] = {"name": self._name}
        if lease is not None:
            metadata = dict(lease["metadata"])
        metadata["annotations"] = dict(metadata.get("annotations") or {}) | {COUNTED: str(token)}
        turns = int(old.get("leaseTransitions") or 0) + (is_new and lease is not None)
        acquired = now if is_new else old.get("acquireTime", now)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {"leaseDurationSeconds": round(self._seconds), "acquireTime": acquired,
                     "renewTime": now, "leaseTransitions": turns} | dict(spec),
        }  # fmt: skip


def _spec(lease: Mapping[str, Any]) -> Mapping[str, Any]:
    return lease.get("spec") or {}


def _token(lease: Mapping[str, Any]) -> int:
    told = (lease["metadata"].get("annotations") or {}).get(COUNTED, "0")
    return int(told) if str(told).isdigit() else 0
