"""Images and sounds as arrays. Files may be broken or claim too much: memory stays bounded."""

from __future__ import annotations

import io
import re
import struct
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from pleb_project.readers.padding import padded, stacked
from pleb_shared.errors import InputError
from pleb_system.reading.extras import need
from pleb_system.reading.images import read_images
from pleb_system.reading.source import EXAMPLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection
    from pleb_system.reading.source import Rows

__all__ = ["SOUND_ENDINGS", "Media", "group_of", "is_sound"]

SOUND_ENDINGS: Final = (".wav", ".flac", ".ogg", ".mp3", ".aiff")
_SOUND_MARKS: Final = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM")


class Media:
    """Decodes images and sounds in the form that [data] wants.

    The first sound's sample rate is everyone's, unless `sample_rate` says so. Sounds that are cut
    are counted in `counts`.
    """

    def __init__(self, data: DataSection, counts: dict[str, int]) -> None:
        self._data, self._counts = data, counts
        self._rate = data.sample_rate

    def images(self, name: str, sources: Sequence[tuple[bytes | Path, str]]) -> Rows:
        """Return images uint8 [n, channels, height, width]; each source has its place.

        Raises:
            InputError: a file is no image, too large, or of another size than those before it.
        """
        return read_images(name, sources, self._data.image_size, self._data.channels)

    def sounds(self, name: str, sources: Sequence[tuple[bytes | Path, str]]) -> Rows:
        """Return sounds float32 [n, samples] from -1 to 1, the mean of their channels.

        With `max_length` there is `name_length` int64 [n] too.

        Raises:
            InputError: a file is no sound, too long, or has another sample rate or length.
        """
        arrays = [self._sound(source, place) for source, place in sources]
        place = f"{sources[0][1]} to {sources[-1][1]}"
        if self._data.max_length:
            return padded(name, arrays, self._data, self._counts, place)
        return {name: stacked(name, arrays, place)}

    def _sound(self, source: bytes | Path, place: str) -> NDArray[np.float32]:
        soundfile = need("soundfile", "soundfile", "Sounds")
        try:
            with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
                _check_wav(file, place)
                with soundfile.SoundFile(file) as sound:
                    return self._samples(sound, place)
        except (OSError, soundfile.SoundFileError, ValueError, TypeError) as error:
            raise InputError(f"{place} cannot be read as a sound: {error}.") from error

    def _samples(self, sound: Any, place: str) -> NDArray[np.float32]:
        self._rate = self._rate or sound.samplerate
        if sound.samplerate != self._rate:
            raise InputError(
                f"{place} has {sound.samplerate} samples a second, not {self._rate}: convert it, "
                "for instance with sox or ffmpeg."
            )
        claimed, longest = len(sound), EXAMPLE_BYTES // (4 * max(1, sound.channels))
        wanted = min(claimed, self._data.max_length + 1) if self._data.max_length else claimed
        if wanted > longest:
            raise InputError(
                f"{place} claims {claimed} samples; at most {longest} are read: cut it into "
                "pieces, or give max_length in [data]."
            )
        samples: NDArray[np.float32] = sound.read(wanted, dtype="float32", always_2d=True)
        if len(samples) < wanted:
            raise InputError(f"{place} ends before the {claimed} samples that it claims.")
        mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
        return mono


def is_sound(data: bytes) -> bool:
    """Whether bytes begin as a sound file does (WAV, FLAC, Ogg, MP3 with a tag, AIFF)."""
    return data.startswith(_SOUND_MARKS) and data[8:12] != b"WEBP"


def group_of(pattern: str, path: str) -> str:
    """Return the group that a regular expression finds in a file's path.

    Raises:
        InputError: it finds nothing there, or is no expression with a part in brackets.
    """
    try:
        match = re.search(pattern, path)
        group = match and match[1]
    except (re.error, IndexError) as error:
        raise InputError(
            f"{pattern!r} in [data] is not a regular expression with a part in brackets, such as "
            "'([^/]+)_take'."
        ) from error
    if group is None:
        raise InputError(f"{path}: {pattern!r} in [data] finds no group in this path.")
    return str(group)


def _check_wav(file: IO[bytes], place: str) -> None:
    """Refuse a WAV file that is shorter than its header says; the library would pad or cut it."""
    head = file.read(12)
    size = file.seek(0, io.SEEK_END)
    at = 12
    while head[:4] == b"RIFF" and head[8:] == b"WAVE" and at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        at += 8 + length + length % 2
        if name == b"data":
            # A recorder that was stopped leaves 0 or the largest number: the rest is the sound.
            if length < 0xFFFFFF00 and at - length % 2 > size:
                raise InputError(
                    f"{place} ends {at - size} bytes before its header says: download or record "
                    "it again."
                )
            break
    file.seek(0)
