"""The entry of the command `gradmf`: turns every way to end into an exit code."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from .messages import exit_code, tell_error, told
from .processor import use_wide_vectors
from .terminal import drop_unwritten

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with `arguments` (without the program's name) and return its exit code."""
    use_wide_vectors()
    # Searching for garbage is a fifth of the time that loading the libraries takes; see Batch.results.
    gc.disable()
    try:
        # Imported here so that an interrupt while click loads ends quietly too.
        from .commands import run

        code = run(sys.argv[1:] if arguments is None else list(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        drop_unwritten(sys.stdout)
        return 0
    except Exception as error:
        code_told = exit_code(error)
        if code_told is None:
            raise
        drop_unwritten(sys.stdout)
        tell_error(told(error))
        return code_told
