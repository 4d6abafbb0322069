"""What new results are compared with."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.leaning import Lie
from pleb_coordinator.core.suspicion import Traits
from pleb_coordinator.core.tolerance import ConfirmedPair
from pleb_coordinator.store.queries.parts import columns

ADD_TRAITS: Final = f"""
INSERT INTO traits (project, epoch, assignment, {columns(Traits)})
VALUES (:project, :epoch, :assignment, {columns(Traits, ":")})
ON CONFLICT (assignment) DO NOTHING
"""
FORGET_TRAITS: Final = """
DELETE FROM traits WHERE project = :project AND seq <= (
    SELECT seq FROM traits WHERE project = :project ORDER BY seq DESC LIMIT 1 OFFSET :keep
)
"""
RECENT_KEYS: Final = """
SELECT seq, assignment FROM traits
WHERE project = :project AND epoch = :epoch ORDER BY seq DESC LIMIT :limit
"""
TRAITS_FROM: Final = f"""
SELECT seq, assignment, {columns(Traits)} FROM traits
WHERE project = :project AND epoch = :epoch AND seq >= :first ORDER BY seq DESC LIMIT :limit
"""
ADD_LIE: Final = f"""
INSERT INTO lies (project, epoch, {columns(Lie)})
VALUES (:project, :epoch, {columns(Lie, ":")})
"""
FORGET_LIES: Final = """
DELETE FROM lies WHERE project = :project AND seq <= (
    SELECT seq FROM lies WHERE project = :project ORDER BY seq DESC LIMIT 1 OFFSET :keep
)
"""
RECENT_LIES: Final = f"""
SELECT {columns(Lie)} FROM lies
WHERE project = :project AND epoch = :epoch AND version >= :since ORDER BY seq DESC
"""
ADD_PAIR: Final = f"""
INSERT INTO pairs (project, epoch, {columns(ConfirmedPair)})
VALUES (:project, :epoch, {columns(ConfirmedPair, ":")})
"""
FORGET_PAIRS: Final = """
DELETE FROM pairs WHERE project = :project AND seq <= (
    SELECT seq FROM pairs WHERE project = :project ORDER BY seq DESC LIMIT 1 OFFSET :keep
)
"""
RECENT_PAIRS: Final = f"""
SELECT {columns(ConfirmedPair)} FROM pairs
WHERE project = :project AND epoch = :epoch ORDER BY seq DESC
"""
