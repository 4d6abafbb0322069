"""Publishing, renewing, enrolling: what gets in and what does not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.blobs.parts import stored
from pleb_coordinator.core.records import FileKind, Tombstone
from pleb_coordinator.steps.enrol import enrol
from pleb_coordinator.steps.files import look_at_tombstones
from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.steps.publish import admit, answer_question, publish
from pleb_coordinator.steps.published import examine, open_publication
from pleb_coordinator.steps.upload import append_part, check_upload, find_upload, finish_upload
from pleb_coordinator.store.background import CLAIM_SECONDS
from pleb_shared.errors import EncodingError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.graph import Graph, Node, Ref, Value
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import EnrolRequest, PublishQuestion, Role
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.project import DataSpec, InputSpec, Shard, ShardList
from pleb_shared.protocol.roots import RootChange, change_root
from pleb_shared.protocol.signing import SigningKey
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.layout import save_tensors, version_digest
from tests.integration.steps_world import BASE_DATA, START, World, graph

pytestmark = pytest.mark.usefixtures("legal_moves")

BASE = "http://127.0.0.1:7532"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def changed(world, **values):
    return msgspec.structs.replace(world.metadata, **values)


def hand_in(world, metadata, *, invite=None, key=None):
    opened = open_publication(world.envelope(metadata, invite=invite, key=key or world.root))
    findings = examine(world.deps, opened)
    with world.store.write() as tx:
        return publish(tx, world.deps, opened, findings, BASE)


def refusal(call, *arguments, **options):
    with pytest.raises(Refusal) as caught:
        call(*arguments, **options)
    return caught.value.code


def invited(world, role=Role.PUBLISHER):
    with world.store.write() as tx:
        return new_invite(tx, world.deps, role, lifetime_seconds=60)


def test_a_new_project_needs_an_invite_that_works_once(world):
    other = changed(world, project="other")
    assert refusal(hand_in, world, other) == RefusalCode.INVALID_INVITE
    with pytest.raises(Refusal, match="invite new --role publisher"):
        hand_in(world, other)
    host_invite = invited(world, Role.TRUSTED)
    assert refusal(hand_in, world, other, invite=host_invite) == RefusalCode.INVALID_INVITE
    token = invited(world)
    reply = hand_in(world, other, invite=token)
    assert reply.missing == []
    assert reply.attach_link.startswith(f"{BASE}/join/other#")
    third = changed(world, project="third")
    assert refusal(hand_in, world, third, invite=token) == RefusalCode.INVALID_INVITE
    with world.store.read() as tx:
        assert tx.projects.names() == ["tiny", "other"]


def test_an_old_invite_has_run_out(world):
    token = invited(world)
    world.clock.now += 61
    other = changed(world, project="other")
    assert refusal(hand_in, world, other, invite=token) == RefusalCode.INVALID_INVITE


def test_missing_blobs_get_slots_and_the_project_lives_once_they_are_there(world):
    data = graph().replace(b"loss", b"lost")
    blob = blob_of(data)
    other = changed(world, project="other", evaluation_graph=blob)
    token = invited(world)
    [slot] = hand_in(world, other, invite=token).missing
    assert slot.digest == blob.digest
    assert hand_in(world, other, invite=token).missing == [slot], "the same slot again"
    with world.store.read() as tx:
        upload = find_upload(tx, world.deps, slot.upload)
        assert tx.projects.names() == ["tiny"]
    append_part(world.deps, upload, 0, data)
    check_upload(world.deps, upload, None)
    with world.store.write() as tx:
        finish_upload(tx, world.deps, upload)
    assert hand_in(world, other, invite=token).missing == []
    with world.store.read() as tx:
        assert tx.projects.names() == ["tiny", "other"]


def test_the_same_root_renews_without_invite_and_only_upwards(world):
    renewed = changed(world, number=2, title="New title")
    hand_in(world, renewed)
    hand_in(world, renewed)
    assert world.project.metadata.title == "New title"
    assert refusal(hand_in, world, world.metadata) == RefusalCode.STALE_METADATA
    sneaky = changed(world, number=2, title="Other title")
    assert refusal(hand_in, world, sneaky) == RefusalCode.STALE_METADATA


def test_a_renewal_asks_for_no_blob_while_everybody_waits(world, monkeypatch):
    """In a bucket each is a request, of which a project's shards may be thousands."""
    renewed = changed(world, number=2, title="New title")
    opened = open_publication(world.envelope(renewed, invite=None, key=world.root))
    findings = examine(world.deps, opened)
    asked = []

    def sizes(_, digests):
        asked.extend(digests)
        return {}

    monkeypatch.setattr(LocalBlobs, "sizes", sizes)
    with world.store.write() as tx:
        assert publish(tx, world.deps, opened, findings, BASE).missing == []
    assert asked == []


def seen_and_examined(world, metadata):
    """Return a new project's publication, and what its examination found of its blobs."""
    with world.store.write() as tx:
        invite = new_invite(tx, world.deps, Role.PUBLISHER, lifetime_seconds=3600)
    opened = open_publication(world.envelope(metadata, invite=invite, key=world.root))
    with world.store.read() as tx:
        seen = look_at_tombstones(tx, world.deps)
    return opened, examine(world.deps, opened, seen)


def asked_for(world, monkeypatch, opened, findings):
    """Put a publication in force; return the reply and the blobs that were asked for meanwhile."""
    asked, sizes = set(), LocalBlobs.sizes

    def counted(blobs, digests):
        asked.update(digests)
        return sizes(blobs, digests)

    monkeypatch.setattr(LocalBlobs, "sizes", counted)
    with world.store.write() as tx:
        return publish(tx, world.deps, opened, findings, BASE), asked


def test_a_first_publication_asks_for_no_blob_while_everybody_waits(world, monkeypatch):
    opened, findings = seen_and_examined(world, changed(world, project="other"))
    assert len(findings.named) > 3
    reply, asked = asked_for(world, monkeypatch, opened, findings)
    assert (reply.missing, asked) == ([], set())


def test_blobs_that_may_have_been_deleted_since_are_asked_for_again(world, monkeypatch):
    dying = world.metadata.data.shards.digest
    with world.store.write() as tx:
        tx.tombstones.add(FileKind.BLOB, dying, world.clock.now)
    opened, findings = seen_and_examined(world, changed(world, project="other"))
    with world.store.write() as tx:
        tx.tombstones.remove(Tombstone(FileKind.BLOB, dying, world.clock.now, condemned=False))
    world.deps.blobs.delete(dying)  # it was condemned and deleted while the others were read
    reply, asked = asked_for(world, monkeypatch, opened, findings)
    assert [slot.digest for slot in reply.missing] == [dying]
    assert asked == {dying}


@pytest.mark.parametrize("later", [CLAIM_SECONDS / 2, -1.0], ids=["late", "clock set back"])
def test_what_was_seen_long_ago_is_asked_for_again(world, monkeypatch, later):
    opened, findings = seen_and_examined(world, changed(world, project="other"))
    world.clock.now += later
    _, asked = asked_for(world, monkeypatch, opened, findings)
    assert asked == {blob.digest for blob in findings.named}


def test_another_root_cannot_take_a_project_over(world):
    thief = SigningKey.generate()
    stolen = changed(world, number=2, root_key=thief.public)
    assert refusal(hand_in, world, stolen, key=thief) == RefusalCode.BAD_SIGNATURE
    forged = changed(world, number=2)
    assert refusal(hand_in, world, forged, key=thief) == RefusalCode.BAD_SIGNATURE


def handed_over(world, metadata, before, after, **values):
    """The metadata with one more change of the root key."""
    change = RootChange(
        protocol=1,
        project=metadata.project,
        number=len(metadata.roots) + 1,
        before=before.public,
        after=after.public,
        issued_at=int(world.clock.now),
    )
    roots = [*metadata.roots, change_root(change, before, after)]
    return msgspec.structs.replace(metadata, root_key=after.public, roots=roots, **values)


def test_a_root_hands_over_and_the_one_before_it_is_refused(world):
    old, new, thief = world.root, SigningKey.generate(), SigningKey.generate()
    reply = hand_in(world, handed_over(world, world.metadata, old, new, number=2), key=new)
    assert reply.attach_link == f"{BASE}/join/tiny#{new.fingerprint}"
    assert world.project.root_key == new.public
    assert refusal(hand_in, world, changed(world, number=3)) == RefusalCode.BAD_SIGNATURE
    stolen = handed_over(world, world.metadata, old, thief, number=3)
    assert refusal(hand_in, world, stolen, key=thief) == RefusalCode.BAD_SIGNATURE
    # An agent that slept needs the whole chain, so none of it may be left out.
    short = msgspec.structs.replace(world.project.metadata, number=3, roots=[])
    assert refusal(hand_in, world, short, key=new) == RefusalCode.STALE_METADATA
    hand_in(world, msgspec.structs.replace(world.project.metadata, number=3), key=new)


def test_a_revocation_is_not_taken_back(world):
    gone = SigningKey.generate().fingerprint
    hand_in(world, changed(world, number=2, revoked=[gone]))
    assert refusal(hand_in, world, changed(world, number=3)) == RefusalCode.STALE_METADATA
    for key in (world.root, world.online):
        own = changed(world, number=3, revoked=[gone, key.fingerprint])
        assert refusal(hand_in, world, own) == RefusalCode.BAD_SIGNATURE


def test_the_delegation_must_be_ours_and_short(world):
    theirs = msgspec.structs.replace(world.metadata.delegation, online_key="ab" * 32)
    assert refusal(hand_in, world, changed(world, number=2, delegation=theirs)) == (
        RefusalCode.WRONG_AUDIENCE
    )
    for expires in (int(START) - 1, int(START) + 31 * 86400):
        delegation = msgspec.structs.replace(world.metadata.delegation, expires_at=expires)
        metadata = changed(world, number=2, delegation=delegation)
        assert refusal(hand_in, world, metadata) == RefusalCode.EXPIRED


def test_blobs_that_do_not_hold_what_is_said_are_refused(world):
    digest = world.deps.blobs.put(b"{}")
    not_a_graph = changed(world, project="other", training_graph=Blob(digest=digest, size=2))
    opened = open_publication(world.envelope(not_a_graph, invite=None, key=world.root))
    assert refusal(examine, world.deps, opened) == RefusalCode.MALFORMED
    model = msgspec.structs.replace(world.metadata.model, initial_digest="0" * 64)
    wrong = changed(world, project="other", model=model)
    opened = open_publication(world.envelope(wrong, invite=None, key=world.root))
    assert refusal(examine, world.deps, opened) == RefusalCode.WRONG_DIGEST


def test_invites_make_trusted_hosts_and_enrolling_again_is_harmless(world):
    host, account = SigningKey.generate(), SigningKey.generate()
    token = invited(world, Role.TRUSTED)

    def once(invite):
        request = EnrolRequest(
            protocols=[1],
            project="tiny",
            host_key=host.public,
            account_key=account.public,
            invite=invite,
            agent="a",
            issued_at=0,
            expires_at=0,
        )
        with world.store.write() as tx:
            return enrol(tx, world.deps, tx.projects.find("tiny"), request, "")

    assert once(None).role == Role.HOST
    assert once(token).role == Role.TRUSTED
    assert once(token).role == Role.TRUSTED
    assert once(None).role == Role.TRUSTED
    assert once(None).account == account.fingerprint
    host = SigningKey.generate()
    assert refusal(once, token) == RefusalCode.INVALID_INVITE
    assert refusal(once, invited(world, Role.PUBLISHER)) == RefusalCode.INVALID_INVITE


def test_strangers_cost_nothing_dear(world):
    """Without an invite or the project's root key no blob is read, however good the rest is."""
    stranger = SigningKey.generate()
    mine = changed(world, project="mine", root_key=stranger.public)
    for metadata, key, code in (
        (mine, stranger, RefusalCode.INVALID_INVITE),
        (changed(world, number=2, root_key=stranger.public), stranger, RefusalCode.BAD_SIGNATURE),
    ):
        opened = open_publication(world.envelope(metadata, invite=None, key=key))
        with world.store.read() as tx:
            assert refusal(admit, tx, world.deps, opened) == code
    opened = open_publication(world.envelope(mine, invite=invited(world), key=stranger))
    with world.store.read() as tx:
        admit(tx, world.deps, opened)


def test_sizes_that_are_not_the_blobs_are_refused(world):
    metadata = world.metadata
    for lie in (1, metadata.training_graph.size + 1):
        blob = msgspec.structs.replace(metadata.training_graph, size=lie)
        wrong = changed(world, number=2, training_graph=blob)
        assert refusal(hand_in, world, wrong) == RefusalCode.WRONG_SIZE
    shards = strict_json.decode(world.deps.blobs.get(metadata.data.shards.digest), ShardList)
    longer = msgspec.structs.replace(shards.train[0], size=shards.train[0].size + 1)
    listing = strict_json.encode(msgspec.structs.replace(shards, train=[*shards.train, longer]))
    blob = stored(world.deps.blobs, listing)
    data = msgspec.structs.replace(metadata.data, shards=blob)
    assert refusal(hand_in, world, changed(world, number=2, data=data)) == RefusalCode.WRONG_SIZE


def test_shards_hold_what_the_list_and_the_inputs_say(world):
    listed = strict_json.decode(world.deps.blobs.get(world.metadata.data.shards.digest), ShardList)
    shard = listed.train[0]  # 8 examples of x float32 [20]
    other = save_tensors({"x": np.zeros((8, 19), np.float32)})
    damaged = b"no safetensors at all"
    for wrong in (
        msgspec.structs.replace(shard, examples=9),
        Shard(digest=world.deps.blobs.put(other), size=len(other), examples=8),
        Shard(digest=world.deps.blobs.put(damaged), size=len(damaged), examples=8),
    ):
        listing = strict_json.encode(ShardList(train=[shard, wrong], holdout=[]))
        blob = stored(world.deps.blobs, listing)
        data = msgspec.structs.replace(world.metadata.data, shards=blob)
        metadata = changed(world, project="other", data=data)
        opened = open_publication(world.envelope(metadata, invite=None, key=world.root))
        with pytest.raises((Refusal, EncodingError), match=r"hold|header"):
            examine(world.deps, opened)


@pytest.mark.parametrize(("numbers", "fits"), [(20, True), (19, False), (21, False)])
def test_a_windows_shard_has_one_number_more_than_windows_need(world, numbers, fits):
    text = save_tensors({"x": np.zeros(numbers, np.uint8)})
    shard = Shard(digest=world.deps.blobs.put(text), size=len(text), examples=16)
    listing = strict_json.encode(ShardList(train=[shard], holdout=[]))
    blob = stored(world.deps.blobs, listing)
    inputs = [InputSpec(name=name, dtype="int64", shape=[4]) for name in ("x", "y")]
    data = DataSpec(kind="windows", window=4, inputs=inputs, shards=blob)
    metadata = changed(world, project="other", data=data)
    opened = open_publication(world.envelope(metadata, invite=None, key=world.root))
    if fits:
        assert examine(world.deps, opened).facts is not None
    else:
        assert refusal(examine, world.deps, opened) == RefusalCode.MALFORMED


def test_a_slot_of_another_size_is_nobodys_obstacle(world):
    """Somebody else with an invite has asked for the same digest, with a size that is wrong."""
    data = graph().replace(b"loss", b"lost")
    slots = []
    for name, size in (("one", len(data) - 1), ("two", len(data))):
        blob = Blob(digest=digest_of(data), size=size)
        metadata = changed(world, project=name, evaluation_graph=blob)
        slots += hand_in(world, metadata, invite=invited(world)).missing
    with world.store.read() as tx:
        upload = find_upload(tx, world.deps, slots[1].upload)
    append_part(world.deps, upload, 0, data)
    check_upload(world.deps, upload, None)


def with_base(world, data):
    """Return metadata of another project whose base is the blob `data`, which may be missing."""
    blob = blob_of(data)
    base = msgspec.structs.replace(world.model.base, blob=blob)
    model = msgspec.structs.replace(world.model, base=base)
    return changed(world, project="other", model=model)


def test_a_base_is_asked_for_like_any_blob(world):
    wrong = with_base(world, b"not here")
    [slot] = hand_in(world, wrong, invite=invited(world)).missing
    assert slot.digest == digest_of(b"not here")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"no tensors at all", RefusalCode.MALFORMED),
        (BASE_DATA[:-1], RefusalCode.WRONG_SIZE),
        (save_tensors({"frozen": np.zeros(20, "V2")}), RefusalCode.WRONG_SHAPE),
        (
            save_tensors({"frozen": np.zeros(20, "i2"), "mask": np.zeros(2, "f4")}),
            RefusalCode.WRONG_DTYPE,
        ),
    ],
)
def test_a_base_that_is_not_what_the_metadata_say_is_refused(world, data, code):
    world.deps.blobs.put(data)
    wrong = with_base(world, data)
    with pytest.raises((EncodingError, Refusal)) as caught:
        hand_in(world, wrong, invite=invited(world))
    assert isinstance(caught.value, EncodingError | Refusal)
    assert caught.value.code == code


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_first_version_that_is_not_finite_is_refused(world, poison):
    tensors = {**world.initial, "b": np.full(20, poison, np.float32)}
    data = save_tensors(tensors)
    model = msgspec.structs.replace(
        world.model,
        initial=stored(world.deps.blobs, data),
        initial_digest=version_digest(tensors, world.model),
    )
    wrong = changed(world, project="other", model=model)
    assert refusal(hand_in, world, wrong, invite=invited(world)) == RefusalCode.NOT_FINITE


def test_a_graph_that_claims_endless_work_is_refused(world):
    """Credit is counted from the graph: it must stay a number that the store can hold."""
    wide = [2**31 - 1, 2**31 - 1]
    node = Node(
        op="aten.mm.default",
        args=[Ref(slot=0), Ref(slot=0)],
        outputs=[Value(dtype="float32", shape=wide)],
    )
    whole = msgspec.json.decode(graph(), type=Graph)
    data = strict_json.encode(msgspec.structs.replace(whole, nodes=[node, *whole.nodes]))
    blob = stored(world.deps.blobs, data)
    wrong = changed(world, number=2, training_graph=blob)
    assert refusal(hand_in, world, wrong) == RefusalCode.MALFORMED


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64])
def test_numbers_that_no_store_holds_are_refused(world, number):
    envelope = world.envelope(changed(world, number=number), invite=None, key=world.root)
    assert refusal(open_publication, envelope) == RefusalCode.MALFORMED


def question(world, project, key, invite=None):
    asked = PublishQuestion(
        protocols=[1],
        project=project,
        invite=invite,
        root_key=key.public,
        issued_at=int(world.clock.now),
        expires_at=int(world.clock.now) + 60,
    )
    with world.store.write() as tx:
        return answer_question(tx, world.deps, asked)


def test_a_researcher_is_answered_before_anything_is_computed(world):
    known = question(world, "tiny", world.root)
    assert (known.number, known.epoch) == (1, 0)
    assert known.free_bytes > 0
    with pytest.raises(Refusal, match="belongs to another root key"):
        question(world, "tiny", SigningKey.generate())
    with pytest.raises(Refusal) as caught:
        question(world, "other", world.root, invite="0" * 32)
    assert caught.value.code == RefusalCode.INVALID_INVITE
    invite = invited(world)
    for _ in range(2):  # asking does not use it up
        assert question(world, "other", world.root, invite=invite).number == 0
    refused = refusal(question, world, "other", world.root, invite=invited(world, Role.HOST))
    assert refused == RefusalCode.INVALID_INVITE
