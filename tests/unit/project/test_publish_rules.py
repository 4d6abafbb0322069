"""Signing rules of publishing: numbers, epochs, delegations, keys. No network."""

from __future__ import annotations

import msgspec
import pytest

from pleb_project.publish.rules import (
    Publication,
    blobs_of,
    next_metadata,
    opened,
    refuse_epoch_changes,
    sign_metadata,
    with_numerics_of,
)
from pleb_project.server.client import Address, parse_address
from pleb_project.server.records import Home, ProjectRecord
from pleb_shared.errors import InputError, Refusal, TrustError
from pleb_shared.protocol.signing import SigningKey
from pleb_shared.protocol.unit import Blob
from tests.small_projects import gpt_project

DAY = 24 * 3600


@pytest.fixture(scope="module")
def draft():
    return gpt_project().metadata


def publication(root, **changes):
    values = {
        "url": "https://h",
        "root_key": root.public,
        "online_key": "a" * 64,
        "issued_at": 1000,
    }
    return Publication(**(values | changes))


def test_the_first_metadata_has_number_1_and_a_delegation_of_30_days(draft):
    root = SigningKey.generate()
    metadata = next_metadata(draft, None, publication(root))
    assert (metadata.number, metadata.epoch) == (1, 0)
    assert metadata.delegation.expires_at == 1000 + 30 * DAY
    assert opened(sign_metadata(metadata, root), root.public) == metadata


def test_a_longer_delegation_is_cut_to_30_days(draft):
    asked = publication(SigningKey.generate(), delegation_seconds=90 * DAY)
    assert next_metadata(draft, None, asked).delegation.expires_at == 1000 + 30 * DAY


def test_renewing_raises_the_number_only(draft):
    root = SigningKey.generate()
    first = next_metadata(draft, None, publication(root))
    second = next_metadata(first, first, publication(root, issued_at=5000))
    assert (second.number, second.epoch) == (2, 0)
    assert second.delegation.expires_at == 5000 + 30 * DAY
    assert second.model == first.model


def test_another_root_key_cannot_take_a_project_over(draft):
    first = next_metadata(draft, None, publication(SigningKey.generate()))
    with pytest.raises(TrustError, match="belongs to another root key"):
        next_metadata(draft, first, publication(SigningKey.generate()))


def test_a_changed_model_needs_a_new_epoch(draft):
    root = SigningKey.generate()
    first = next_metadata(draft, None, publication(root))
    changed = msgspec.structs.replace(draft, training_graph=Blob(digest="f" * 64, size=9))
    with pytest.raises(InputError, match="--new-epoch"):
        next_metadata(changed, first, publication(root))
    assert next_metadata(changed, first, publication(root, new_epoch=True)).epoch == 1


def test_other_numerics_need_a_new_epoch_but_may_be_measured_first(draft):
    root = SigningKey.generate()
    rules = msgspec.structs.replace(draft.verification, numerics="strict")
    strict = msgspec.structs.replace(draft, verification=rules)
    first = next_metadata(strict, None, publication(root))
    with pytest.raises(InputError, match=r"verification\.numerics.*--new-epoch"):
        next_metadata(draft, first, publication(root))
    refuse_epoch_changes(first, with_numerics_of(first, draft))  # before `check` has measured
    looser = msgspec.structs.replace(rules, tolerance_ceiling=rules.tolerance_ceiling * 2)
    second = msgspec.structs.replace(strict, verification=looser)
    assert next_metadata(second, first, publication(root)).number == 2


def test_metadata_signed_by_another_key_is_not_opened(draft):
    root = SigningKey.generate()
    envelope = sign_metadata(next_metadata(draft, None, publication(root)), SigningKey.generate())
    with pytest.raises(Refusal, match="signature"):
        opened(envelope, root.public)


def test_every_blob_is_named_once(draft):
    shard = Blob(digest="1" * 64, size=3)
    found = blobs_of(draft, [shard, shard, draft.model.initial])
    assert len({blob.digest for blob in found}) == len(found)
    assert {shard, draft.model.initial, draft.training_graph} <= set(found)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://h:7532/", Address("https://h:7532")),
        (f"https://h#{'a' * 64}", Address("https://h", "a" * 64)),
        ("http://127.0.0.1:80/base", Address("http://127.0.0.1:80/base")),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["h:7532", "ftp://h", "https://h#abc", "https://"])
def test_what_is_no_address(text):
    with pytest.raises(InputError, match="is not a coordinator's address"):
        parse_address(text)


def test_a_published_project_is_found_by_name_or_by_link(tmp_path):
    home = Home(tmp_path)
    link = f"https://h/join/digits#{'a' * 64}"
    home.remember(ProjectRecord("digits", link))
    assert str(home.find("digits")) == str(home.find(link)) == link
    for unknown in ("digit", "../projects/digits2"):
        with pytest.raises(InputError, match="No project"):
            home.find(unknown)
