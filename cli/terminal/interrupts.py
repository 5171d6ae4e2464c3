"""Signals that ask the process to end: it does so soon and without a word, whatever it is at."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ONE_GESTURE_SECONDS = 1.0
"""Who presses a key in haste presses it twice: within this time, what was begun is still put in order."""
_IMPORTING = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
_LOCKING = ("threading", "concurrent.futures._base", "concurrent.futures.thread")
_MAKING = ("tempfile", "zarr.core.sync")


class Interrupts:
    """Ends the process when a signal comes, with exit code 128 + its number (130 for Ctrl-C).

    While `unwinding` is set, the first signal raises KeyboardInterrupt in the main thread, so that whoever
    has begun a file takes it away. Before, there is nothing to put in order, and the process ends on the
    spot. After `finish` signals are ignored: all is done, and the interpreter, which would show a traceback
    on its way out, is about to end.
    """

    def __init__(self) -> None:
        self.unwinding = False
        self._heard: list[int] = []
        self._number = 0
        self._since = 0.0

    def listen(self) -> None:
        """Handle signals from here on; those that the process was started to ignore stay ignored."""
        for number in (getattr(signal, name, None) for name in _NAMES):
            if number and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._come)
                self._heard.append(number)
        sys.unraisablehook = self._lost

    def finish(self) -> None:
        """Nothing is left to do but to go. Where a signal came, the process ends here."""
        self.unwinding = False
        if self._number:
            _end(self._number)
        for number in self._heard:
            signal.signal(number, signal.SIG_IGN)

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self._number and time.monotonic() - self._since < _ONE_GESTURE_SECONDS:
            return
        if self._number or not self.unwinding:
            _end(number)
        self._number, self._since = number, time.monotonic()
        self._raise(frame)

    def _raise(self, frame: FrameType | None) -> None:
        beneath = _beneath_what_must_end(frame)
        if beneath is None:
            raise KeyboardInterrupt
        _raise_in(beneath)

    def _lost(self, unraisable: sys.UnraisableHookArgs) -> None:
        """What a finalizer or a callback raises goes no further: an interrupt has to come once more."""
        if not self._number:
            sys.__unraisablehook__(unraisable)
        elif self.unwinding and issubclass(unraisable.exc_type, KeyboardInterrupt):
            frame = sys._getframe(1)
            _raise_in(_beneath_what_must_end(frame) or frame)


def _raise_in(frame: FrameType) -> None:
    """Raise KeyboardInterrupt as soon as that frame goes on."""

    def interrupt(*_: object) -> NoReturn:
        sys.settrace(None)
        raise KeyboardInterrupt

    frame.f_trace = interrupt
    sys.settrace(lambda *_: None)


def _beneath_what_must_end(frame: FrameType | None) -> FrameType | None:
    """The frame that waits for what an exception would not end well; None where there is no such thing.

    An extension that is being loaded turns it into another, or prints it; a lock that has just been taken is
    never given back; a file that has just been made is nobody's; and Zarr's own thread goes on to write
    files, after all have been taken away.
    """
    beneath = None
    while frame is not None and (module := frame.f_globals.get("__name__")) != "gradmf.cli.main":
        if frame.f_code.co_filename in _IMPORTING or module in (*_LOCKING, *_MAKING):
            beneath = frame.f_back
        frame = frame.f_back
    return beneath


def _end(number: int) -> NoReturn:
    """Not by way of the interpreter, which would wait for threads, and tell of what they and others left."""
    if "rich.live" in sys.modules and os.isatty(2):
        os.write(2, b"\x1b[?25h")  # a progress bar hides the cursor
    os._exit(128 + number)
