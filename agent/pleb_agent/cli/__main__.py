"""`python -m pleb_agent.cli`."""

import sys

from pleb_agent.cli.main import main

sys.exit(main())
