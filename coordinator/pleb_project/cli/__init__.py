"""`pleb-project`: the researcher's command line."""

from pleb_project.cli.main import main

__all__ = ["main"]
