"""Peers of the gateway comparison: where they are found, how they start, what cannot be had."""

from __future__ import annotations

import pytest
import yaml

from benchmarks import tools
from benchmarks.gateway import __main__ as cli
from benchmarks.gateway import compare, contenders, peers
from benchmarks.gateway.peers import LITELLM, SGLANG_ROUTER, SMG, VLLM_ROUTER
from benchmarks.tools import ToolMissing

UP = (("http://127.0.0.1:9", "http://127.0.0.1:10"), "m")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))

    def have(name: str):
        peer = peers.PEERS[name]
        command = tools.folder(peer.requirements) / "bin" / peer.command
        command.parent.mkdir(parents=True)
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)
        return command

    return have


@pytest.mark.parametrize("name", list(peers.PEERS))
def test_a_peer_is_found_in_the_environment_made_for_it(cache, name):
    assert contenders.find_peer(name, None) is None
    command = cache(name)
    assert contenders.find_peer(name, None) == command
    version = peers.PEERS[name].requirements[0].split("==")[1]
    assert compare.present([name], None, installs=False) == {name: version}


def test_a_peer_that_is_named_stands_before_its_environment(cache, tmp_path):
    cache(VLLM_ROUTER)
    other = tmp_path / "other" / "vllm-router"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert contenders.find_peer(VLLM_ROUTER, other.parent) == other
    assert peers.pinned(VLLM_ROUTER, other) == ""


def test_any_python_is_not_taken_for_a_peer(cache, tmp_path):
    other = tmp_path / "other" / "python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert contenders.find_peer(SGLANG_ROUTER, other.parent) is None


def test_routers_start_before_all_upstreams_with_round_robin(tmp_path):
    plain = peers.words(VLLM_ROUTER, UP, (1, 2), tmp_path)
    assert plain[:4] == ["--host", "127.0.0.1", "--port", "1"]
    at = plain.index("--worker-urls")
    assert plain[at + 1 : at + 4] == [*UP[0], "--policy"]
    assert peers.words(SMG, UP, (1, 2), tmp_path) == ["launch", *plain]
    module = peers.words(SGLANG_ROUTER, UP, (1, 2), tmp_path)
    assert module == ["-m", "sglang_router.launch_router", *plain]


def test_litellm_is_told_its_upstreams_and_its_key_by_a_file(tmp_path):
    words = peers.words(LITELLM, UP, (1, 2), tmp_path)
    made = yaml.safe_load((tmp_path / "litellm.yaml").read_text())
    assert {row["model_name"] for row in made["model_list"]} == {"m"}
    bases = [row["litellm_params"]["api_base"] for row in made["model_list"]]
    assert bases == [f"{url}/v1" for url in UP[0]]
    assert made["general_settings"]["master_key"] == peers.KEY
    assert str(tmp_path / "litellm.yaml") in words


def test_a_peer_that_cannot_be_had_is_left_out_with_the_reason(cache, monkeypatch, capsys):
    def made(requirements, command):
        raise ToolMissing("no index today")

    monkeypatch.setattr(tools, "made", made)
    assert compare.present([VLLM_ROUTER], None, installs=True) == {}
    assert "vllm-router is not here: left out (no index today)" in capsys.readouterr().err
    assert compare.present([VLLM_ROUTER], None, installs=False) == {}


def test_what_cannot_be_installed_is_named_and_ends_with_one(monkeypatch, capsys):
    def made(requirements, command):
        raise ToolMissing(f"no {requirements[0]} today")

    monkeypatch.setattr(tools, "made", made)
    assert cli.main(["install", LITELLM]) == 1
    assert "no litellm[proxy]" in capsys.readouterr().out


def test_an_unknown_peer_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        cli.main(["install", "other"])
    assert "vllm-router, smg, sglang-router, litellm" in capsys.readouterr().err
