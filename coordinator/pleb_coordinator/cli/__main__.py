"""`python -m pleb_coordinator.cli`."""

import sys

from pleb_coordinator.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
