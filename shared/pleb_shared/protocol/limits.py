"""Every ceiling of the protocol, with its unit. What exceeds one is refused, never trimmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["LIMITS", "PROTOCOLS", "Limits"]

PROTOCOLS: Final = (1,)
"""Supported protocol versions, newest first."""


@dataclass(frozen=True)
class Limits:
    """Ceilings on what is read from the other side, and tolerances that both sides apply."""

    default_port: int = 7532

    name_characters: int = 64
    """Names of projects, tensors' parts, metrics; display names."""
    text_characters: int = 4_000
    """Titles, descriptions, sentences."""
    reason_characters: int = 200
    """A text among a reason's values."""
    json_depth: int = 16
    """Nesting of any JSON or TOML that is read."""
    number_characters: int = 64
    """Of a number with a fraction or an exponent, in JSON and TOML; no float needs more than 25.
    Whole numbers have 64 bits."""
    settings_bytes: int = 256 * 1024
    """A file that people write: a project, settings, preferences."""

    message_bytes: int = 256 * 1024
    """An envelope of enrolment, work request or work reply, as JSON text."""
    metadata_bytes: int = 4 * 1024 * 1024
    """An envelope of project metadata, as JSON text."""
    graph_bytes: int = 16 * 1024 * 1024
    shard_list_bytes: int = 64 * 1024 * 1024
    shard_bytes: int = 256 * 1024 * 1024
    own_shard_bytes: int = 4 * 1024 * 1024
    """Of a user's own data, as a worker gets them; of large examples a batch at least."""
    model_bytes: int = 16 * 1024**3
    blob_part_bytes: int = 1024 * 1024
    """A larger blob has parts of so many bytes, each of which can be checked by itself."""
    leaves_bytes: int = 512 * 1024
    """The leaves of the largest blob."""

    attached_delta_bytes: int = 64 * 1024
    """A delta that is packed into at most so much travels in the body of the work request."""
    attached_unpacked_bytes: int = 128 * 1024
    """A larger one is uploaded however well it was packed: what is attached is kept in a row."""
    request_bytes: int = 2 * 1024 * 1024
    """The whole body of a work request: envelope and attached deltas."""
    upload_part_bytes: int = 8 * 1024 * 1024
    """One PATCH of a resumable upload, at most."""
    sent_part_bytes: int = 1_000_000
    """What our own programs send in one: proxies refuse bodies of more than 1 MiB by default."""
    direct_least_bytes: int = 1024 * 1024
    """A smaller result goes to the coordinator, even where hosts may put results into its bucket:
    that takes a request more."""
    direct_part_bytes: int = 2 * 1024 * 1024
    """Of what hosts put into a bucket: what is sent again after a break, at most."""
    direct_parts: int = 16
    """Parts that are signed at once."""
    direct_query_characters: int = 4_000
    """Of one signature; a session's token may be long."""

    units_per_request: int = 64
    reports_per_request: int = 64
    held_blobs: int = 64
    tensors: int = 100_000
    tensor_dimensions: int = 8
    tensor_elements: int = 2**31 - 1
    shards: int = 1_000_000
    chunks: int = 8
    """Of one project, beside the whole model."""
    chunk_windows: int = 10_000
    family_members: int = 64
    """Projects that are published together."""
    family_settings: int = 16
    """What one of them has otherwise than the project file says."""
    family_rungs: int = 16
    """How often the trials of a sweep are compared."""
    graph_nodes: int = 200_000
    step_flops: int = 2**42
    """One run of a graph: a minute or two on an old PC of four cores. A step is the smallest piece
    of work: what a pause may have to wait for, and what a stop loses."""
    metrics: int = 32
    """Outputs of an evaluation graph."""
    metric_values: int = 512
    """Of one evaluation, those for each class included."""
    predictions: int = 2**24
    """Numbers that an evaluation gathers from the whole holdout: 128 MiB."""
    showcase_examples: int = 16
    """Of one showcase."""
    showcase_classes: int = 65_536
    """That a showcase's scores are of."""
    showcase_top: int = 5
    """Likeliest classes of an example that are told."""
    showcase_numbers: int = 16
    """Of an example, in a showcase."""
    showcase_prompt: int = 1_000
    """Bytes of a showcase's prompt."""
    showcase_tokens: int = 400
    """Bytes that a model says after it."""
    card_bytes: int = 512 * 1024
    """A showcase's card, as JSON text."""
    inputs: int = 16
    mirrors: int = 16
    """Of one project."""
    mirror_characters: int = 500
    """The address of one."""
    received_bytes: int = 2**40
    """What a host says it has received since its last request, of one kind of source."""
    lan_blobs: int = 256
    """Of which a neighbour is asked at once."""
    peers: int = 8
    """Other hosts that a host which shares is told of."""
    lan_body_bytes: int = 256 * 1024
    """Of a request to a neighbour, and of its answer about what it has."""
    project_keys: int = 1024
    """Of a private project: one more for each time that somebody is removed."""
    fleet_records: int = 200_000
    """Hosts and accounts of a project that one coordinator tells the next one of."""
    fleet_records_bytes: int = 64 * 1024 * 1024
    credit: float = 1e30
    """Of a host, in FLOPs: ten thousand of the fastest computers of today for a thousand years."""
    reader_characters: int = 200
    """What a reader of a private project is known by."""
    root_changes: int = 32
    """Changes of a project's root key in its whole life."""
    root_change_characters: int = 2_000
    """One of their envelopes."""
    revoked_keys: int = 256

    clock_tolerance_seconds: int = 600
    """How far two clocks may differ before a statement is refused."""
    request_lifetime_seconds: int = 900
    """Expiry of a host's request after it was issued, at most; longer than clocks may differ, so
    that a request of a host whose clock is behind has not expired before it arrives."""
    free_seconds: int = 31 * 24 * 3600
    """The longest time for which a host says that it is free."""
    delegation_seconds: int = 30 * 24 * 3600
    """Life of the root's delegation to the coordinator's online key, at most."""
    long_poll_seconds: int = 30
    lease_seconds: int = 24 * 3600
    version_lag: int = 8
    """A unit may lie at most this many versions behind the newest one."""
    versions: int = 10_000_000
    local_steps: int = 100_000
    batches_per_step: int = 1024
    batch_examples: int = 65_536


LIMITS: Final = Limits()
