"""`python -m pleb_project.cli`."""

import sys

from pleb_project.cli.main import main

sys.exit(main())
