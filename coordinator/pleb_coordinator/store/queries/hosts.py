"""Hosts with their networks, records, convictions and classes; invites."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.peers import MOST_CANDIDATES
from pleb_coordinator.core.records import Adopted, Alarm, CalibrationClass, Conviction, Host, Invite
from pleb_coordinator.store.queries.parts import columns, insert

_CLASS: Final = columns(CalibrationClass)
_HOST: Final = columns(Host)
_INVITE: Final = columns(Invite)

COUNT_STRONG: Final = """
SELECT count(*) FROM hosts
WHERE project = :project AND last_asked > :since AND banned_until <= :since
  AND (memory_bytes IS NULL OR memory_bytes >= :memory_bytes)
"""

# At most so many independent voices (core.voices): the fewest of accounts, teams and networks. One
# of the operator's own networks, or an unknown one, tells nobody apart, so accounts count there.
_BY_TEAM: Final = "count(DISTINCT CASE h.team WHEN '' THEN h.account ELSE h.team END)"
_BY_NETWORK: Final = """count(DISTINCT CASE
    WHEN h.network = '' OR h.network LIKE 'own:%' THEN h.account ELSE h.network END)"""
_VOICES: Final = f"CASE WHEN {_BY_TEAM} < {_BY_NETWORK} THEN {_BY_TEAM} ELSE {_BY_NETWORK} END"
FIND_HOST: Final = f"""
SELECT {_HOST} FROM hosts WHERE project = :project AND fingerprint = :fingerprint
"""
FIND_HOST_OF: Final = f"""
SELECT {_HOST} FROM hosts
WHERE project = (SELECT id FROM projects WHERE name = :name) AND fingerprint = :fingerprint
"""
GET_HOST: Final = f"SELECT {_HOST} FROM hosts WHERE id = :host"
# Those that share on the internet: some are banned or gone since they were seen.
SHARING_HOSTS: Final = f"""
SELECT id, shards FROM hosts WHERE banned_until <= :now
  AND id IN ({", ".join(f":host{number}" for number in range(MOST_CANDIDATES))})
"""
# A host that had the unit twice comes twice: sorting rows takes longer than reading them again.
HOSTS_OF_UNIT: Final = f"""
SELECT {columns(Host, "h.")} FROM assignments a JOIN hosts h ON h.id = a.host
WHERE a.unit = :unit ORDER BY a.id
"""
NETWORKS_OF_UNIT: Final = """
SELECT n.host, n.network FROM assignments a JOIN host_networks n ON n.host = a.host
WHERE a.unit = :unit AND n.seen_at > :since
"""
FIRST_CLASS: Final = """
SELECT h.determinism_class FROM assignments a JOIN hosts h ON h.id = a.host
WHERE a.unit = :unit ORDER BY a.id LIMIT 1
"""
HOSTS: Final = f"""
SELECT {_HOST} FROM hosts WHERE project = :project ORDER BY last_seen DESC LIMIT :limit
"""
HOSTS_OF_ACCOUNT: Final = f"""
SELECT {_HOST} FROM hosts WHERE project = :project AND account = :account
"""
MANY_HOSTS: Final = "SELECT 1 FROM hosts WHERE project = :project LIMIT 1 OFFSET :number"
COUNT_HOSTS: Final = "SELECT count(*) FROM hosts WHERE project = :project"
HOSTS_BY_FINGERPRINT: Final = f"""
SELECT {_HOST} FROM hosts
WHERE project = :project AND fingerprint >= :first AND fingerprint < :after LIMIT :limit
"""
HOSTS_BY_NAME: Final = f"""
SELECT {_HOST} FROM hosts WHERE project = :project AND display_name = :name LIMIT :limit
"""
ENROL: Final = f"""
INSERT INTO hosts (project, fingerprint, key, account, role, network, display_name, agent,
                   enrolled_at, last_seen, team, proven, invite, enrolled_from)
VALUES (:project, :fingerprint, :key, :account, :role, :network, :display_name, :agent,
        :now, :now,
        coalesce((SELECT max(team) FROM (
            SELECT team FROM hosts WHERE project = :project AND account = :account
            UNION ALL SELECT team FROM departed WHERE project = :project AND account = :account
        ) known), ''),
        :proven, :invite, :network)
ON CONFLICT (project, fingerprint) DO UPDATE SET
    network = excluded.network, agent = excluded.agent,
    proven = CASE WHEN excluded.proven = 1 AND excluded.invite <> '' THEN 1 ELSE hosts.proven END,
    invite = CASE excluded.invite WHEN '' THEN hosts.invite ELSE excluded.invite END,
    display_name = CASE excluded.display_name WHEN '' THEN hosts.display_name
                   ELSE excluded.display_name END,
    role = CASE excluded.role WHEN 'host' THEN hosts.role ELSE excluded.role END
RETURNING {_HOST}
"""
SAW: Final = """
UPDATE hosts
SET sequence = :sequence, request_digest = :request_digest, network = :network,
    agent = :agent, refuses = :refuses, memory_bytes = :memory_bytes, last_seen = :at,
    last_asked = CASE WHEN :asked = 1 THEN :at ELSE last_asked END,
    shards = coalesce(:shards, shards),
    paced_until = coalesce(:paced_until, paced_until)
WHERE id = :host
"""
SET_TEAM: Final = tuple(
    f"UPDATE {table} SET team = :team WHERE project = :project AND account = :account"
    for table in ("hosts", "departed")
)
NOTE_NETWORK: Final = """
INSERT INTO host_networks (host, network, seen_at) VALUES (:host, :network, :at)
ON CONFLICT (host, network) DO UPDATE SET seen_at = excluded.seen_at
"""
KEEP_NETWORKS: Final = """
DELETE FROM host_networks WHERE host = :host AND network NOT IN (
    SELECT network FROM host_networks WHERE host = :host
    ORDER BY seen_at DESC, network LIMIT :kept
)
"""
NETWORKS: Final = "SELECT network FROM host_networks WHERE host = :host AND seen_at > :since"
NETWORK_NAMES: Final = "SELECT DISTINCT network FROM host_networks"
FORGET_NETWORK: Final = "DELETE FROM host_networks WHERE network = :network"
FORGET_NETWORK_OF_HOSTS: Final = "UPDATE hosts SET network = '' WHERE network = :network"
NTH_NEWCOMER: Final = """
SELECT enrolled_at FROM hosts WHERE project = :project AND enrolled_from = :network
ORDER BY enrolled_at DESC LIMIT 1 OFFSET :before
"""
UNPROVEN_FROM: Final = """
SELECT count(*) FROM hosts
WHERE project = :project AND enrolled_from = :network AND +last_seen > :since AND role = 'host'
  AND proven = 0
"""
"""The plus keeps SQLite from the index of `last_seen`, which has all hosts of the day."""
PUT_REPLY: Final = """
INSERT INTO replies (host, reply) VALUES (:host, :reply)
ON CONFLICT (host) DO UPDATE SET reply = excluded.reply
"""
GET_REPLY: Final = "SELECT reply FROM replies WHERE host = :host"
SET_RUNTIME: Final = """
UPDATE hosts SET runtime = :runtime, determinism_class = :determinism_class WHERE id = :host
"""
SET_SPEED: Final = "UPDATE hosts SET seconds_per_step = :seconds_per_step WHERE id = :host"
SET_UPLOAD_SPEED: Final = "UPDATE hosts SET upload_bytes_per_second = :speed WHERE id = :host"
SET_STANDING: Final = """
UPDATE hosts
SET record = :record, proven = :proven, suspended_by = :suspended_by, recent = :recent,
    setbacks = :setbacks, refused = :refused, bans = :bans, banned_until = :banned_until,
    ban_reason = :ban_reason, credit = :credit, units_valid = :units_valid
WHERE id = :host
"""
SET_FASTEST: Final = "UPDATE hosts SET fastest_step_seconds = :seconds WHERE id = :host"
PROVEN_HOSTS: Final = "SELECT id FROM hosts WHERE project = :project AND proven = 1"
COUNT_FLEET: Final = f"""
SELECT {_VOICES}, count(CASE WHEN h.proven = 1 THEN 1 END),
       count(CASE WHEN h.proven = 0 THEN 1 END), count(h.seconds_per_step)
FROM hosts h
WHERE project = :project AND last_asked > :since AND banned_until <= :since AND role = 'host'
"""
MEDIAN_STEP_SECONDS: Final = """
SELECT seconds_per_step FROM hosts
WHERE project = :project AND last_asked > :since AND banned_until <= :since AND role = 'host'
  AND seconds_per_step IS NOT NULL
ORDER BY seconds_per_step LIMIT 1 OFFSET :place
"""
COUNT_TRUSTED: Final = """
SELECT count(*) FROM hosts WHERE project = :project AND role <> 'host' AND last_seen > :since
  AND (memory_bytes IS NULL OR memory_bytes >= :memory_bytes)
"""
TRUSTED_MEMORY: Final = """
SELECT max(COALESCE(memory_bytes, :any_memory)) FROM hosts
WHERE project = :project AND role <> 'host' AND last_seen > :since
"""
TRUSTED_ASKING: Final = """
SELECT count(*), min(seconds_per_step) FROM hosts
WHERE project = :project AND role <> 'host' AND last_asked > :since
  AND (memory_bytes IS NULL OR memory_bytes >= :memory_bytes)
"""

# Moving: what one coordinator tells the next one of hosts

ADOPT_HOST: Final = f"""
INSERT INTO hosts (role, {columns(Adopted)}) VALUES ('host', {columns(Adopted, ":")})
ON CONFLICT (project, fingerprint) DO UPDATE SET
    display_name = CASE hosts.display_name WHEN '' THEN excluded.display_name
                   ELSE hosts.display_name END,
    team = CASE hosts.team WHEN '' THEN excluded.team ELSE hosts.team END,
    record = CASE WHEN hosts.record < excluded.record THEN excluded.record ELSE hosts.record END,
    refused = hosts.refused + excluded.refused,
    bans = hosts.bans + excluded.bans,
    ban_reason = CASE WHEN hosts.banned_until < excluded.banned_until THEN excluded.ban_reason
                 ELSE hosts.ban_reason END,
    banned_until = CASE WHEN hosts.banned_until < excluded.banned_until THEN excluded.banned_until
                   ELSE hosts.banned_until END,
    credit = hosts.credit + excluded.credit,
    units_valid = hosts.units_valid + excluded.units_valid
"""
ADOPT_ACCOUNT: Final = """
INSERT INTO departed (project, account, display_name, team, units_valid, refused, bans, credit)
VALUES (:project, :account, :display_name, :team, :units_valid, :refused, :bans, :credit)
ON CONFLICT (project, account) DO UPDATE SET
    units_valid = departed.units_valid + excluded.units_valid,
    refused = departed.refused + excluded.refused,
    bans = departed.bans + excluded.bans,
    credit = departed.credit + excluded.credit
"""

# Convictions, alarm

ADD_CONVICTION: Final = insert("convictions", Conviction) + " ON CONFLICT (unit, host) DO NOTHING"
CONVICTED_FOR: Final = "SELECT host FROM convictions WHERE unit = :unit"
TAKE_CONVICTION: Final = f"""
DELETE FROM convictions WHERE unit = :unit AND host = :host RETURNING {columns(Conviction)}
"""
GET_ALARM: Final = f"SELECT {columns(Alarm)} FROM alarms WHERE project = :project"
PUT_ALARM: Final = (
    insert("alarms", Alarm)
    + """
ON CONFLICT (project) DO UPDATE SET
    audit_floor = excluded.audit_floor, audit_record = excluded.audit_record,
    raised_at = excluded.raised_at, counted = excluded.counted, surge_until = excluded.surge_until,
    spot_checks = excluded.spot_checks, lies = excluded.lies
"""
)

# Calibrations

CLASS_OF: Final = "SELECT digest FROM calibrations WHERE host = :host AND runtime = :runtime"
RUNTIMES_SINCE: Final = "SELECT count(*) FROM calibrations WHERE host = :host AND made_at > :since"
ADD_CALIBRATION: Final = """
INSERT INTO calibrations (host, runtime, project, account, trusted, digest, seconds_per_step,
                          made_at)
VALUES (:host, :runtime, :project, :account, :trusted, :digest, :seconds_per_step, :now)
ON CONFLICT (host, runtime) DO UPDATE SET
    project = excluded.project, account = excluded.account, trusted = excluded.trusted,
    digest = excluded.digest, seconds_per_step = excluded.seconds_per_step,
    made_at = excluded.made_at
"""
COUNT_CLASS: Final = f"""
UPDATE classes SET
    accounts = (SELECT {_VOICES} FROM calibrations c JOIN hosts h ON h.id = c.host
                WHERE c.project = :project AND c.digest = :digest),
    trusted = (SELECT coalesce(max(c.trusted), 0) FROM calibrations c
               WHERE c.project = :project AND c.digest = :digest)
WHERE project = :project AND digest = :digest
"""
ADD_CLASS: Final = """
INSERT INTO classes (project, digest, assignment, first_at)
VALUES (:project, :digest, :assignment, :now)
ON CONFLICT (project, digest) DO NOTHING
"""
FIND_CLASS: Final = f"SELECT {_CLASS} FROM classes WHERE project = :project AND digest = :digest"
CLASSES: Final = f"SELECT {_CLASS} FROM classes WHERE project = :project ORDER BY first_at, digest"
SET_MEASURED: Final = """
UPDATE classes SET measured = :measured WHERE project = :project AND digest = :digest
"""
SET_ISOLATED: Final = """
UPDATE classes SET isolated = :isolated WHERE project = :project AND digest = :digest
"""
PUT_DISTANCE: Final = """
INSERT INTO class_distances (project, first, second, distance)
VALUES (:project, :first, :second, :distance)
ON CONFLICT (project, first, second) DO UPDATE SET distance = excluded.distance
"""
DISTANCES: Final = "SELECT first, second, distance FROM class_distances WHERE project = :project"

# Invites

ADD_INVITE: Final = insert("invites", Invite)
FIND_INVITE: Final = f"SELECT {_INVITE} FROM invites WHERE token_hash = :token_hash"
USE_INVITE: Final = """
UPDATE invites SET used_at = :now, used = used + 1
WHERE token_hash = :token_hash AND used < uses AND revoked = 0
"""
REVOKE_INVITE: Final = """
UPDATE invites SET revoked = 1 WHERE token_hash = :token_hash AND used < uses
"""
INVITES: Final = f"SELECT {_INVITE} FROM invites ORDER BY created_at DESC"
