"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gradmf")
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "unknown"
