"""The entry of the command `gradmf`: turns every way to end into an exit code."""

from __future__ import annotations

# Nothing else is imported up here: until the process listens for signals, an interrupt shows a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with `arguments` (without the program's name) and return its exit code.

    Without `arguments` it takes those of the process, and its signals and streams too.
    """
    try:
        return _process() if arguments is None else _run(list(arguments))
    except KeyboardInterrupt:
        return INTERRUPTED


def _process() -> int:
    import sys

    from .terminal.interrupts import Interrupts

    interrupts = Interrupts()
    interrupts.listen()
    try:
        if None in (sys.stdin, sys.stdout, sys.stderr):
            from .terminal.terminal import stand_in_for_closed

            stand_in_for_closed()

        def loaded() -> None:
            interrupts.unwinding = True

        code = _run(sys.argv[1:], loaded)
        interrupts.finish()
    except BaseException:
        # Whatever has become of an interrupt on its way here.
        interrupts.finish()
        raise
    return code


def _run(arguments: Sequence[str], loaded: Callable[[], None] = lambda: None) -> int:
    """loaded : called before anything is done that an interrupt has to undo"""
    import gc
    import sys

    from .terminal.processor import tune_openblas

    tune_openblas()
    # Searching for garbage is a fifth of the time that loading the libraries takes; see Batch.attempt.
    gc.disable()
    try:
        from .commands.group import run

        loaded()
        code = run(list(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        from .terminal.terminal import drop_unwritten

        drop_unwritten(sys.stdout)
        return 0
    except Exception as error:
        from .terminal.messages import exit_code, tell_error, told
        from .terminal.terminal import drop_unwritten

        code_told = exit_code(error)
        if code_told is None:
            raise
        drop_unwritten(sys.stdout)
        # Files and runs are named by those who open them; what remains is what results are written to.
        tell_error(told(error, "standard output"))
        return code_told
