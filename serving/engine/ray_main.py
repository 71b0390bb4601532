"""`ray start`, trimmed to what one loopback machine needs. Run as a module with Ray's arguments.

Two changes to Ray 2.60, each a name the contract test watches: no Ray client server, one more
process and open port nobody here speaks to; and of the dashboard's ten processes only the one
behind Serve's REST API.
"""

import sys
from typing import Any

from ray._private import ray_constants, services
from ray.scripts import scripts

DASHBOARD_MODULES = "ServeHead"


def main() -> None:
    """Run Ray's command line."""
    start_process = services.start_ray_process

    def start_trimmed(command: list[str], process_type: str, *args: Any, **named: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_DASHBOARD:
            command = [*command, f"--modules-to-load={DASHBOARD_MODULES}"]
        return start_process(command, process_type, *args, **named)

    services.start_ray_process = start_trimmed
    scripts.get_ray_client_dependency_error = lambda: "not wanted"
    sys.argv[0] = "ray"
    scripts.main()


if __name__ == "__main__":
    main()
