"""What each process imports: a gateway's image holds no reports, no engine and no test tool."""

from __future__ import annotations

import subprocess
import sys

import pytest

ABSENT = (
    "kubernetes", "numpy", "opentelemetry", "playwright", "pyarrow", "pytest", "ray", "torch",
    "vllm", "xlsxwriter",
)  # fmt: skip
SCRIPT = """
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"{{name}} is not in a gateway's image", name=name)
sys.meta_path.insert(0, Absent())
importlib.import_module({module!r})
"""


@pytest.mark.parametrize("module", ["ballast.cli", "serving.app", "autoscale.app"])
def test_a_gateway_s_image_holds_all_that_it_imports(module: str) -> None:
    script = SCRIPT.format(absent=ABSENT, module=module)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-1000:]
