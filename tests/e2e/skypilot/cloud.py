"""A cloud of one kind of machine, as SkyPilot's provisioner for Lambda Cloud asks it over HTTP."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REGIONS = ("us-east-1", "europe-central-1")
TYPES = {"gpu_1x_h100_pcie": 2.49, "gpu_1x_h100_sxm5": 3.29}
"""Prices an hour, US dollars; made up."""
BOOT_S, END_S = 4.0, 1.0


class Cloud:
    """What its account holds."""

    def __init__(self) -> None:
        self.machines: list[dict] = []
        self.keys: list[dict] = []
        self.regions = REGIONS
        """With machines to give."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (_Asked,), {}))
        self._server.RequestHandlerClass.cloud = self
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def alive(self) -> list[dict]:
        """Machines that cost money now."""
        return [one for one in self.listed() if one["status"] in ("booting", "active")]

    def listed(self) -> list[dict]:
        now_s = time.monotonic()
        for one in self.machines:
            if one["status"] == "booting" and now_s - one["at"] > BOOT_S:
                one["status"] = "active"
            if one["status"] == "terminating" and now_s - one["at"] > END_S:
                one["status"] = "terminated"
        return [one for one in self.machines if one["status"] != "terminated"]

    def types(self) -> dict:
        places = [{"name": region} for region in self.regions]
        return {name: {"regions_with_capacity_available": places} for name in TYPES}

    def launch(self, asked: dict) -> dict:
        made = {
            "id": f"i-{len(self.machines)}", "name": asked["name"], "status": "booting",
            "ip": "127.0.0.9", "private_ip": f"10.0.0.{len(self.machines) + 1}",
            "at": time.monotonic(), "type": asked["instance_type_name"],
            "region": asked["region_name"],
        }  # fmt: skip
        self.machines.append(made)
        return {"instance_ids": [made["id"]]}

    def terminate(self, asked: dict) -> dict:
        for one in self.machines:
            if one["id"] in asked["instance_ids"]:
                one |= {"status": "terminating", "at": time.monotonic()}
        return {"terminated_instances": []}

    def add_key(self, asked: dict) -> dict:
        self.keys.append(asked)
        return asked


class _Asked(BaseHTTPRequestHandler):
    cloud: Cloud

    def do_GET(self):
        cloud = self.cloud
        found = {"/instances": cloud.listed, "/instance-types": cloud.types}.get(self.path)
        self._say(found() if found else cloud.keys if self.path == "/ssh-keys" else [])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        verbs = {
            "/instance-operations/launch": self.cloud.launch,
            "/instance-operations/terminate": self.cloud.terminate,
            "/ssh-keys": self.cloud.add_key,
        }
        self._say(verbs[self.path](body))

    def _say(self, data) -> None:
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass
