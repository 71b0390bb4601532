"""What every test shares: one rule about skipping, one way to draw examples.

A test that needs a server, a tool or an extra beyond Python is marked `server` or `e2e` and skips
aloud where that is missing. `--no-server-skips` (CI) turns such a skip into a failure, so that a
green run there means that everything ran.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import settings

from benchmarks.ledger.server import QUICK, PostgresServer, ServerMissing
from benchmarks.redis_server import RedisServer

# A busy machine is no failure, and a run can be repeated: the examples depend on the code alone.
settings.register_profile("ballast", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ballast")

# What commands say is compared in English, whatever the language of whoever runs the tests.
os.environ["BALLAST_LANG"] = "en"
NEEDY = ("server", "e2e")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option CI sets."""
    parser.addoption(
        "--no-server-skips",
        action="store_true",
        help="fail, instead of skipping, where a server, tool or extra is missing",
    )


def _must_run(item: pytest.Item) -> bool:
    is_needy = any(item.get_closest_marker(name) for name in NEEDY)
    return is_needy and bool(item.config.getoption("--no-server-skips"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip that CI does not accept into a failure that says so."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _must_run(item):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} may not be skipped here (--no-server-skips): {reason}"
    return report


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this session's own; a test that stops it starts it again."""
    try:
        server = PostgresServer(QUICK)
    except ServerMissing as missing:
        pytest.skip(str(missing))
    try:
        server.make()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], tuple[int, ...]]:
    """So many ports on loopback that nobody listens on now."""

    def find(count: int) -> tuple[int, ...]:
        with contextlib.ExitStack() as held:
            sockets = [
                held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
            ]
            return tuple(one.getsockname()[1] for one in sockets)

    return find


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program that a Debian package of the same name brings, or a skip aloud."""

    def find(name: str, package: str = "") -> str:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"no {name} here: install the package `{package or name}`")
        return found

    return find


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this session's own; a test that stops it starts it again."""
    if shutil.which("redis-server") is None:
        pytest.skip("no Redis server here: install the package `redis-server`")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _databases() -> list[str]:
    """Names of those that exist and are empty."""
    return []


@pytest.fixture
def new_database(postgres: PostgresServer, _databases: list[str]) -> Iterator[Callable[[], str]]:
    """Gives empty databases: the URL of one."""
    taken: list[str] = []

    def take() -> str:
        if not _databases:
            name = f"test{next(_serial)}"
            postgres.create(name)
            _databases.append(name)
        taken.append(_databases.pop())
        return postgres.url(taken[-1])

    yield take
    for name in taken:
        postgres.wipe(name)
        _databases.append(name)


_serial = itertools.count(1)
