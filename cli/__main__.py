"""`python -m gradmf.cli`."""

import sys

try:
    from .main import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
