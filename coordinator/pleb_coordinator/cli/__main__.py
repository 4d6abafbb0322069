"""`python -m pleb_coordinator.cli`."""

import sys

from pleb_coordinator.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
