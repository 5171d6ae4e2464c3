"""Machine code of a kernel, kept between processes and loaded with llvmlite alone.

Numba takes longer to import than a log of a few megabytes takes to analyze, and all that a run needs of it,
once its kernels are compiled, is their machine code. Numba compiles a kernel to LLVM's language, llvmlite
turns that into an object file for this processor, and later processes only link the object file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from .cache import CACHE_FOLDER, compile_lock, is_own, user

_engines: list[Any] = []
"""Owners of the code that was loaded; it stays for as long as the process runs."""


def address_of(name: str, sources: Sequence[Path], compiled: Callable[[], tuple[str, str]]) -> int:
    """Address of a compiled C function.

    Parameters
    ----------
    name : of the function and its argument types, as part of a file name
    sources : files that the machine code follows from; after a change to one it is made again
    compiled : returns (symbol, LLVM module as text); called when no usable object file is there

    Raises what `compiled` raises.
    """
    path = _object_path(name, sources)
    found = _read(path)
    if found is None:
        with compile_lock():
            found = _read(path)  # by another process, while this one waited for the lock
            if found is None:
                found = _build(compiled)
                _write(path, *found)
    return _link(*found)


def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)


def _object_path(name: str, sources: Sequence[Path]) -> Path | None:
    if CACHE_FOLDER is None:
        return None
    key = hashlib.sha256()
    features = llvm.get_host_cpu_features().flatten()
    machine = (llvmlite.__version__, llvm.get_default_triple(), llvm.get_host_cpu_name(), features)
    for word in (*machine, str(user())):  # users who share a folder don't share machine code
        key.update(word.encode() + b"\0")
    for source in sources:
        key.update(source.read_bytes() + b"\0")
    return CACHE_FOLDER / f"{name}-{key.hexdigest()[:32]}.o"


def _read(path: Path | None) -> tuple[str, bytes] | None:
    """(symbol, object file), or None where there is none, it isn't whole, or others can have written it."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            if not is_own(os.fstat(file.fileno())):
                return None
            digest, symbol, code = file.read().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    whole = hashlib.sha256(symbol + b"\n" + code).hexdigest().encode() == digest
    return (symbol.decode(), code) if whole else None


def _write(path: Path | None, symbol: str, code: bytes) -> None:
    if path is None:
        return
    rest = symbol.encode() + b"\n" + code
    # Where the folder can't be written any more, the next process compiles once again.
    with contextlib.suppress(OSError):
        file = tempfile.NamedTemporaryFile(dir=path.parent, delete=False)  # noqa: SIM115
        try:
            with file:
                file.write(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


_RUNTIME = re.compile(r"^declare (.*@(?:numba|NRT)_\w+\([^)\n]*\)).*$", re.MULTILINE)
"""Functions of Numba's runtime, which raise exceptions and free arrays."""


def _build(compiled: Callable[[], tuple[str, str]]) -> tuple[str, bytes]:
    symbol, text = compiled()
    machine = _machine()
    # Kernels neither raise nor own memory, but what Numba would do then is compiled in.
    module = llvm.parse_assembly(_RUNTIME.sub(r"define internal \1 {\n  unreachable\n}", text))
    module.verify()
    return symbol, bytes(machine.emit_object(module))


def _link(symbol: str, code: bytes) -> int:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(symbol))
