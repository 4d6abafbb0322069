"""Where the unsent assignments begin."""

from __future__ import annotations

from typing import Final

# The unsent assignments in their order, without whose they may be: see `store.beginnings`.
FIRST_UNSENT: Final = """
SELECT a.id FROM assignments a
WHERE a.state = 'unsent' AND a.project = :project AND a.purpose = :purpose
  AND a.trusted_only = :trusted_only AND a.id >= :first
ORDER BY a.id LIMIT 1
"""
