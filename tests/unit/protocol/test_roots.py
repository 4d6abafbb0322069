"""The chain of root keys: what leads from one to the next, and what does not."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from pleb_shared.errors import Refusal
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.roots import RootChange, change_root, root_path
from pleb_shared.protocol.signing import SigningKey
from tests.small_projects import gpt_project

KEYS = [SigningKey.generate() for _ in range(4)]


def chain(*keys, **first):
    """The changes from each key to the next; `first` changes what the first one says."""
    changes = []
    for number, (before, after) in enumerate(itertools.pairwise(keys), 1):
        change = RootChange(
            protocol=1,
            project="gpt",
            number=number,
            before=before.public,
            after=after.public,
            issued_at=7,
        )
        if number == 1:
            change = msgspec.structs.replace(change, **first)
        changes.append(change_root(change, before, after))
    return changes


@pytest.fixture(scope="module")
def metadata():
    return msgspec.structs.replace(gpt_project().metadata, project="gpt")


def signed_by(metadata, key, roots):
    return msgspec.structs.replace(metadata, root_key=key.public, roots=roots)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_path_goes_from_the_first_root_to_the_last(metadata, count):
    keys = KEYS[:count]
    path = root_path(signed_by(metadata, keys[-1], chain(*keys)))
    assert path == tuple(key.public for key in keys)


def test_an_envelope_of_a_change_fits(metadata):
    longest = msgspec.structs.replace(metadata, project="p" * 40).project
    change = RootChange(
        protocol=1,
        project=longest,
        number=LIMITS.root_changes,
        before=KEYS[0].public,
        after=KEYS[1].public,
        issued_at=2**53,
    )
    assert len(change_root(change, *KEYS[:2])) <= LIMITS.root_change_characters


def broken_chains():
    a, b, c, d = KEYS
    yield "its last key is not the root", chain(a, b), c
    yield "a change is missing", [chain(a, b, c, d)[0], chain(a, b, c, d)[2]], d
    yield "changes in another order", chain(a, b, c)[::-1], c
    yield "a key that was left comes again", chain(a, b, a), a
    yield "a change to itself", chain(a, a), a
    yield "another project's", chain(a, b, project="other"), b
    yield "numbered from 2", chain(a, b, number=2), b
    yield "signed by a key that it does not name", chain(a, b, before=d.public), b
    yield "no envelope", ["{}"], a


@pytest.mark.parametrize(
    ("roots", "root"), [pytest.param(*case[1:], id=case[0]) for case in broken_chains()]
)
def test_a_chain_that_is_broken_leads_nowhere(metadata, roots, root):
    with pytest.raises(Refusal):
        root_path(signed_by(metadata, root, roots))
