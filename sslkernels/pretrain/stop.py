"""SIGTERM and SIGINT: noted while a step runs, answered after it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):  # noqa: N818
    """The run was asked to stop and its state is saved; `signal` asked."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class StopRequest:
    """Context in which SIGTERM and SIGINT set `number` instead of ending the process.

    Outside the main thread, where Python allows no handlers, it notes nothing.
    """

    def __init__(self) -> None:
        self.number = 0
        self.at_once = False

    def __enter__(self) -> StopRequest:
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if self.at_once:
            raise Stopped(number)

    def answer_at_once(self) -> None:
        """From here on nothing is lost by stopping: raise Stopped, now if one came before."""
        self.at_once = True
        if self.number:
            raise Stopped(self.number)
