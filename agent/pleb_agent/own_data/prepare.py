"""A process of its own that reads a user's folder into encrypted shards.

    python -m pleb_agent.own_data.prepare < ORDER

reads an `Order` as JSON and prints an `Outcome`. Files may be broken in any way, and libraries that
read them may fail in any way: a process of its own costs agentd neither its memory nor its life.
The folder is read twice: first every example is checked and counted, then each goes to one of the
shards, drawn by lot, so that all of them are alike. Meanwhile nothing is on the disk in the clear.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pleb_agent.own_data.order import NONCE_BYTES, Order, Outcome, shard_file
from pleb_shared.errors import InputError
from pleb_shared.protocol.own_data import own_shard_examples
from pleb_shared.protocol.project import InputSpec, example_bytes
from pleb_shared.tensors.layout import NUMPY_DTYPES, save_tensors
from pleb_system.reading.own_folder import OwnFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pleb_system.reading.source import Rows

__all__ = ["main", "prepare"]

_MOST_MEMORY: Final = 3 * 2**30
_MOST_EXAMPLES: Final = 2**27
_MOST_SHARDS: Final = 65_536
_NICE: Final = 19


def prepare(order: Order) -> int:
    """Read the folder and write its shards; return how many.

    Raises:
        InputError: an example is not what the project declares, or there are too few.
    """
    source = OwnFolder(Path(order.folder), order.form, order.inputs)
    total = sum(len(next(iter(rows.values()))) for rows in source.chunks())
    if total < order.batch_examples:
        raise InputError(
            f"{order.folder} has {total} examples; this project needs a batch of "
            f"{order.batch_examples} at least."
        )
    if total > _MOST_EXAMPLES:
        raise InputError(f"{order.folder} has more than {_MOST_EXAMPLES} examples.")
    most = own_shard_examples(example_bytes(order.inputs), order.batch_examples)
    count = -(-total // most)
    if count > _MOST_SHARDS:
        raise InputError(f"{order.folder} is too large: it makes more than {_MOST_SHARDS} shards.")
    target = Path(order.target)
    piles = _Piles(target, count, order.inputs)
    # As a random order cut into equal parts; the generator's seed is the system's.
    shards = np.random.default_rng().permutation(total) % count
    seen = 0
    try:
        for rows in source.chunks():
            size = len(next(iter(rows.values())))
            if seen + size > total:
                break
            piles.add(shards[seen : seen + size], rows)
            seen += size
        if seen != total:
            raise InputError(f"{order.folder} changed while it was read; it is read again.")
        cipher = AESGCM(bytes.fromhex(order.key))
        for number in range(count):
            nonce = os.urandom(NONCE_BYTES)
            data = cipher.encrypt(nonce, save_tensors(piles.take(number)), None)
            shard_file(target, number).write_bytes(nonce + data)
    finally:
        piles.remove()
    return count


class _Piles:
    """Examples on their way to their shards, encrypted with a key that only this process has."""

    def __init__(self, folder: Path, count: int, inputs: list[InputSpec]) -> None:
        self._folder, self._inputs = folder, inputs
        self._key = os.urandom(32)
        self._streams = {
            (shard, place): self._cipher(shard, place).encryptor()
            for shard in range(count)
            for place in range(len(inputs))
        }

    def _cipher(self, shard: int, place: int) -> Cipher[modes.CTR]:
        start = shard.to_bytes(4, "big") + place.to_bytes(4, "big") + bytes(8)
        return Cipher(algorithms.AES(self._key), modes.CTR(start))

    def _path(self, shard: int, place: int) -> Path:
        return self._folder / f"pile-{shard}-{place}"

    def add(self, shards: NDArray[np.int64], rows: Rows) -> None:
        """Take the next examples; `shards` [n] says where each belongs."""
        for shard in np.unique(shards).tolist():
            chosen = shards == shard
            for place, spec in enumerate(self._inputs):
                data = np.ascontiguousarray(rows[spec.name][chosen]).tobytes()
                with self._path(shard, place).open("ab") as file:
                    file.write(self._streams[shard, place].update(data))

    def take(self, shard: int) -> Rows:
        """Return the examples of a shard: arrays [n, *shape] by the input's name."""
        rows: Rows = {}
        for place, spec in enumerate(self._inputs):
            data = (
                self._cipher(shard, place).decryptor().update(self._path(shard, place).read_bytes())
            )
            dtype = NUMPY_DTYPES[spec.dtype]
            rows[spec.name] = np.frombuffer(data, dtype).reshape(-1, *spec.shape)
        return rows

    def remove(self) -> None:
        """Delete the piles."""
        for shard, place in self._streams:
            self._path(shard, place).unlink(missing_ok=True)


def main() -> int:
    """Do what the order on standard input says."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    with suppress(OSError, AttributeError):
        os.nice(_NICE)
    if sys.platform != "win32":
        import resource

        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    try:
        outcome = Outcome(shards=prepare(order))
    except InputError as error:
        outcome = Outcome(problem=str(error))
    except MemoryError:
        outcome = Outcome(problem=f"{order.folder} takes too much memory to read: cut its files.")
    except OSError as error:
        outcome = Outcome(problem=f"{order.folder} cannot be read: {error.strerror}.")
    except Exception as error:  # noqa: BLE001 - any file may break a library anywhere
        why = f"{type(error).__name__}: {error}"
        outcome = Outcome(problem=f"{order.folder} cannot be read ({why}).")
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
