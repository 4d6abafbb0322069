"""What one coordinator tells the next one of hosts."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.store.queries.parts import EVER

ACCOUNTS: Final = f"""
SELECT account, max(display_name), max(team), sum(hosts), sum(units_valid),
       sum(refused + bans * :ban_after), sum(credit)
FROM {EVER} e GROUP BY account
ORDER BY sum(credit) DESC, sum(units_valid) DESC, account LIMIT :limit
"""
TEAMS: Final = f"""
SELECT team, count(DISTINCT account), sum(hosts), sum(units_valid),
       sum(refused + bans * :ban_after), sum(credit)
FROM {EVER} e WHERE team <> '' GROUP BY team
ORDER BY sum(credit) DESC, sum(units_valid) DESC, team LIMIT :limit
"""
EVENT_COUNTS: Final = """
SELECT kind, count(*) FROM (
    SELECT kind, at FROM events WHERE project = :project ORDER BY seq DESC LIMIT :limit
) newest WHERE at >= :since GROUP BY kind ORDER BY kind
"""
VERSIONS_SINCE: Final = """
SELECT count(*), COALESCE(sum(results), 0) FROM versions
WHERE project = :project AND epoch = :epoch AND made_at >= :since AND number > 0
"""
HOSTS_BY_CLASS: Final = """
SELECT determinism_class, count(*),
    sum(CASE WHEN last_seen >= :active_since THEN 1 ELSE 0 END),
    sum(CASE WHEN role <> 'host' THEN 1 ELSE 0 END),
    sum(CASE WHEN proven = 1 THEN 1 ELSE 0 END),
    sum(CASE WHEN suspended_by IS NOT NULL THEN 1 ELSE 0 END),
    sum(CASE WHEN refused + bans > 0 THEN 1 ELSE 0 END),
    sum(CASE WHEN banned_until > :now THEN 1 ELSE 0 END)
FROM hosts WHERE project = :project GROUP BY determinism_class ORDER BY 2 DESC, 1 LIMIT 50
"""
HOSTS_BY_NETWORK: Final = """
SELECT network, count(*), count(DISTINCT account),
    sum(CASE WHEN proven = 1 THEN 1 ELSE 0 END),
    sum(CASE WHEN refused + bans > 0 THEN 1 ELSE 0 END),
    sum(CASE WHEN banned_until > :now THEN 1 ELSE 0 END)
FROM hosts WHERE project = :project AND role = 'host' AND network <> ''
GROUP BY network HAVING count(DISTINCT account) >= :least
ORDER BY 5 DESC, 3 DESC, 1 LIMIT :limit
"""
REFUSING_HOSTS: Final = """
SELECT refuses, count(*) FROM hosts
WHERE project = :project AND last_seen >= :since AND refuses <> ''
GROUP BY refuses ORDER BY 2 DESC, 1 LIMIT :limit
"""
