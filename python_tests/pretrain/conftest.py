"""Runs of the trainer inside the test process: fast, and what they print is caught."""

import pytest
import torch

from sslkernels.pretrain.cli import main

from .runs import RECIPE, Result


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    """One thread (tiny networks), and torch's switches as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    mode = torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)


@pytest.fixture
def train(capfd, tmp_path, monkeypatch):
    """train(*arguments) -> Result: the command line, in a fresh folder, with the tests' recipe first."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, recipe=RECIPE):
        capfd.readouterr()
        status = main([recipe, *map(str, arguments)] if recipe else list(map(str, arguments)))
        caught = capfd.readouterr()
        return Result(status, caught.out, caught.err)

    return call
