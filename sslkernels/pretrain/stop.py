"""SIGTERM and SIGINT: answered at once where nothing is lost, and after the step in training."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):  # noqa: N818
    """A signal asked the run to stop, and nothing is lost."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class StopRequest:
    """Context in which the first SIGTERM or SIGINT raises Stopped; after `hold` they are noted in `number`.

    A second one does not disturb what the first one ends. Outside the main thread, where Python allows no
    handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.number = 0
        self.at_once = True

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
            self.at_once = False
            raise Stopped(number)

    def hold(self) -> None:
        """From here on a signal waits until someone looks at `number`."""
        self.at_once = False

    def answer_at_once(self) -> None:
        """From here on nothing is lost by stopping: raise Stopped, now where a signal has come."""
        self.at_once = not self.number
        if self.number:
            raise Stopped(self.number)
