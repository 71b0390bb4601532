"""The commands as a person meets them: clear words, exit codes, no tracebacks."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from ballast import status
from ballast.chat import events
from ballast.cli import app
from ballast.problem import ProblemError
from ballast.web import error_text

DECISION = {
    "request_id": "r1", "at_ms": 0, "tenant": "acme", "project": "p", "key_id": "k",
    "surface": "chat", "model": "m", "alias": "m", "latency_class": "live", "outcome": "ok",
    "status": 200, "code": "", "target": "m@h:1", "reason": "local", "attempts": 1, "queue_ms": 0,
    "predicted_ms": 7, "first_token_ms": 5, "total_ms": 9, "prompt_tokens": 3,
    "completion_tokens": 4,
}  # fmt: skip
OPS = {
    "/signals": {"models": {"m": {"running": 3, "queued": 2, "oldest_wait_s": 0.5}}},
    "/fleet": {
        "age_s": 0.2,
        "models": {
            "m": {
                "replicas": [{"id": "m@h:1", "address": "h:1/m/m", "kv": 0.5, "breaker": "open"}],
                "offerings": [{"id": "p/x", "jurisdiction": "us"}],
                "expected_in_s": 12.0,
                "trouble": "NotReadyError: it answers nonsense",
            }
        },
    },
    "/decisions": {"decisions": [DECISION]},
}


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")


class Ops(BaseHTTPRequestHandler):
    """Plays the ops listener."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        data = OPS[path]
        if "request_id=" in query and not query.endswith("=r1"):
            data = {"decisions": []}
        body = msgspec.json.encode(data)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


@contextmanager
def ops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ops)
    thread = threading.Thread(target=server.serve_forever, name="ops")
    thread.start()
    monkeypatch.setenv("BALLAST_GATEWAY__OPS_PORT", str(server.server_port))
    monkeypatch.setenv("BALLAST_CONTROLLER__OPS_PORT", str(server.server_port))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_an_unknown_setting_ends_with_three_and_its_name(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("gateway: {prot: 1}")
    code, output = run("up", "--config", str(config))
    assert code == 3
    assert "gateway.prot" in output


def test_an_unknown_model_ends_with_three_and_starts_nothing() -> None:
    code, output = run("up", "--model", "nonsense", "--no-engine", "--port", "0")
    assert code == 3
    assert "nonsense" in output
    assert "what to do:" in output


@pytest.mark.parametrize("command", [["status"], ["explain", "r1"]])
def test_without_a_stack_the_answer_says_how_to_start_one(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALLAST_GATEWAY__OPS_PORT", "1")
    code, output = run(*command)
    assert code == 1
    assert "nothing answers at 127.0.0.1:1" in output
    assert "ballast up" in output


def test_chat_without_a_first_start_says_so() -> None:
    code, output = run("chat", "hello")
    assert code == 1
    assert "no demo key" in output


def test_a_fake_nobody_knows_is_refused() -> None:
    code, output = run("fake", "cluster")
    assert code == 1
    assert "no fake 'cluster'" in output


def test_status_shows_fleet_queue_and_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    with ops(monkeypatch):
        code, output = run("status")
        assert code == 0
        for text in ("m@h:1", "50%", "open", "API in us", "expected in 12.00 s", "r1", "local",
                     "it answers nonsense"):  # fmt: skip
            assert text in output
        code, output = run("status", "--json")
        assert msgspec.json.decode(output)["signals"] == OPS["/signals"]


@pytest.mark.parametrize("asked", [["r1"], ["chatcmpl-R1"], []])
def test_explain_tells_what_the_gateway_remembers_without_a_ledger(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ops(monkeypatch):
        code, output = run("explain", *asked)
    assert code == 0
    told = " ".join(output.split())
    assert "r1 was answered (HTTP 200)." in told
    assert "Key k of tenant acme (project p) called chat with the model m" in told
    assert "because it had room" in told
    assert "5 ms after the call (predicted for the engine: 7 ms)" in told
    assert "not in the ledger yet" in told


def test_a_request_nobody_knows_is_said_to_be_unknown_and_where_ids_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ops(monkeypatch):
        code, output = run("explain", "r2")
    assert code == 1
    assert "no request 'r2'" in output
    assert "x-request-id" in output


def test_models_are_listed_before_the_first_start() -> None:
    code, output = run("models")
    assert code == 0
    assert "smollm2-135m-instruct" in output


@pytest.mark.parametrize("arguments", [["fake"], ["fake", "--help"], ["-h"], ["explain", "-h"]])
def test_help_is_given_however_it_is_asked_for(arguments: list[str]) -> None:
    code, output = run(*arguments)
    assert code == 0
    assert "Usage:" in output


def test_a_part_that_does_not_answer_is_shown_as_such() -> None:
    found = {
        "signals": OPS["/signals"],
        "fleet": {"error": "away"},
        "decisions": {"error": "away"},
        "controller": {"error": "nothing answers at 127.0.0.1:8090"},
        "money": {"error": "no ledger at x"},
    }
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(status.tables(found))
    console.file.close()
    shown = console.export_text()
    assert "nothing answers at 127.0.0.1:8090" in shown
    assert "no ledger at x" in shown


def test_a_stream_yields_its_text_and_ends_at_done() -> None:
    lines = [
        b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n', b"\n",
        b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n', b": ping\n",
        b'data: {"choices":[{"delta":{"content":"lo"}}]}\n', b'data: {"choices":[]}\n',
        b"data: [DONE]\n", b"data: beyond\n",
    ]  # fmt: skip
    found = [c["delta"].get("content", "") for event in events(lines) for c in event["choices"]]
    assert "".join(found) == "Hello"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([b'data: {"error":{"message":"engine died"}}\n'], "engine died"),
        ([b'data: {"choices":[]}\n'], "without its last event"),
        ([b"data: nonsense\n"], "not JSON"),
    ],
    ids=["error event", "cut", "garbage"],
)
def test_a_broken_stream_says_so(lines: list[bytes], words: str) -> None:
    with pytest.raises(ProblemError, match=words):
        list(events(lines))


def test_an_error_body_of_any_form_yields_text() -> None:
    assert error_text(b'{"error":{"message":"no"}}') == "no"
    assert error_text(b"<html>") == "<html>"
    assert error_text(b"") == "an empty body"


def test_the_version_is_told():
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert re.fullmatch(r"ballast \d+\.\d+\.\d+\n", done.output)


def test_the_embedded_model_is_said_to_be_no_card():
    done = CliRunner().invoke(app, ["models", "show", "smollm2-135m-instruct"])
    assert done.exit_code == 1
    assert "`ballast up` carries" in " ".join(done.output.split())
