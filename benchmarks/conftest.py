"""The `race` fixture: ours and its peers, turn by turn in one process, recorded with their ratio.

    def test_serialize_molecules(race):
        race("serialize molecules=4991 threads=1", ours, {"networkx": peer}, floor={"networkx": 300})

pytest-benchmark times ours on top, so that its --benchmark-autosave and --benchmark-compare follow a change.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from benchmarks import results

Call = Callable[[], object]


BLOCK = 0.02  # seconds


class Timing(NamedTuple):
    """Median seconds of a call: repeated, and the first of each block, which finds the caches cold."""

    repeated: float
    first: float


def turns(calls: dict[str, Call], seconds: float, least: int = 5) -> dict[str, Timing]:
    """The calls in turns, so that a drift of the machine meets all of them; in its turn a call is repeated
    for BLOCK seconds, at least once. `least`: how many turns at least.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    firsts: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds
    gc.disable()
    try:
        while time.perf_counter() < end or len(firsts[next(iter(firsts))]) < least:
            for name, call in calls.items():
                started = len(times[name])
                block_end = time.perf_counter() + BLOCK
                while len(times[name]) == started or time.perf_counter() < block_end:
                    start = time.perf_counter()
                    call()
                    times[name].append(time.perf_counter() - start)
                firsts[name].append(times[name][started])
    finally:
        gc.enable()
    return {
        name: Timing(statistics.median(values), statistics.median(firsts[name]))
        for name, values in times.items()
    }


class Race:
    """Callable fixture; `curve` records one measure against size for the plots."""

    def __init__(self, benchmark: Callable[..., object]) -> None:
        self._benchmark = benchmark

    def __call__(
        self,
        problem: str,
        ours: Call,
        peers: dict[str, Call],
        *,
        seconds: float = 3.0,
        least: int = 5,
        scale: dict[str, float] | None = None,
        floor: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Ratios peer / ours by peer.

        scale: what a peer's time is multiplied by, where it works on a part of the problem only (a slow peer
        on 100 of 4,991 molecules: 49.91). floor: the least ratio promised; the table marks a lower one.
        """
        found = turns({"ours": ours, **peers}, seconds, least)
        mine = found["ours"]
        ratios = {}
        for peer in peers:
            times = (scale or {}).get(peer, 1.0)
            peer_seconds = found[peer].repeated * times
            ratios[peer] = peer_seconds / mine.repeated
            results.add_row(
                problem=problem,
                peer=peer,
                ours_seconds=mine.repeated,
                peer_seconds=peer_seconds,
                ratio=ratios[peer],
                first_ratio=found[peer].first * times / mine.first,
                floor=(floor or {}).get(peer),
            )
        self._benchmark.extra_info.update(ratios)  # type: ignore[attr-defined]
        self._benchmark.pedantic(ours, rounds=3)  # type: ignore[attr-defined]
        return ratios

    @staticmethod
    def curve(name: str, x_label: str, y_label: str, lines: dict[str, list[tuple[float, float]]]) -> None:
        """Record points (x, y) by line for a picture beside the table."""
        results.add_curve(name=name, x_label=x_label, y_label=y_label, lines=lines)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each race that takes it runs on one thread, then on two."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def race(benchmark: Callable[..., object]) -> Race:
    return Race(benchmark)


def pytest_collection_finish(session: pytest.Session) -> None:
    """A library that is missing or older than the Python files would have the references raced."""
    from sslkernels import _op

    _op.declare_all()
    lacking = [name for name, op in _op.OPS.items() if "CPU" not in op.native]
    if session.items and lacking:
        pytest.exit(f"benchmarks: no native kernel of {', '.join(lacking)}: make develop", returncode=2)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Nothing is written when a benchmark failed, none ran, or none was asked for (--benchmark-enable)."""
    if exitstatus == 0 and session.config.getoption("benchmark_enable"):
        results.write()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(results.table())
