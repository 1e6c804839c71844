"""What lines, and worse, do to bytes: pieces of a sound stream, damaged at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]
Random = np.random.Generator

LONGEST_READ = 65_536
LONGEST_STRETCH = 2000


def mutate(piece: Octets, stream: Octets, random: Random) -> Octets:
    """A damaged copy of `piece`, which is a part of `stream`; now and then a sound one."""
    damaged = piece.copy()
    for _ in range(int(random.integers(0, 4))):
        if damaged.size:
            damaged = _MUTATIONS[int(random.integers(len(_MUTATIONS)))](damaged, stream, random)
    return damaged


def cuts(size: int, random: Random) -> Iterator[tuple[int, int]]:
    """(begin, end) of reads that make up `size` bytes, from single bytes to 64 KiB."""
    at = 0
    while at < size:
        end = min(at + int(np.exp(random.uniform(0.0, np.log(LONGEST_READ)))), size)
        yield at, end
        at = end


def _places(piece: Octets, random: Random) -> npt.NDArray[np.int64]:
    """Up to one place in a hundred, ascending."""
    count = random.binomial(piece.size, 10 ** random.uniform(-5, -2))
    return np.sort(random.integers(piece.size, size=count))


def _stretch(size: int, random: Random) -> slice:
    begin = int(random.integers(size))
    return slice(begin, begin + int(random.integers(1, LONGEST_STRETCH)))


def _flip(piece: Octets, stream: Octets, random: Random) -> Octets:
    places = _places(piece, random)
    piece[places] ^= (1 << random.integers(8, size=places.size)).astype(np.uint8)
    return piece


def _overwrite(piece: Octets, stream: Octets, random: Random) -> Octets:
    places = _places(piece, random)
    piece[places] = random.integers(256, size=places.size)
    return piece


def _drop(piece: Octets, stream: Octets, random: Random) -> Octets:
    return np.delete(piece, _places(piece, random))


def _repeat(piece: Octets, stream: Octets, random: Random) -> Octets:
    places = _places(piece, random)
    return np.insert(piece, places, piece[places])


def _insert(piece: Octets, stream: Octets, random: Random) -> Octets:
    places = _places(piece, random)
    return np.insert(piece, places, random.integers(256, size=places.size).astype(np.uint8))


def _lose_stretch(piece: Octets, stream: Octets, random: Random) -> Octets:
    return np.delete(piece, _stretch(piece.size, random))


def _repeat_stretch(piece: Octets, stream: Octets, random: Random) -> Octets:
    stretch = _stretch(piece.size, random)
    return np.concatenate((piece[: stretch.stop], piece[stretch], piece[stretch.stop :]))


def _splice(piece: Octets, stream: Octets, random: Random) -> Octets:
    at = int(random.integers(piece.size))
    return np.concatenate((piece[:at], stream[_stretch(stream.size, random)], piece[at:]))


def _garbage(piece: Octets, stream: Octets, random: Random) -> Octets:
    stretch = _stretch(piece.size, random)
    size = piece[stretch].size
    one_value = random.random() < 0.3
    piece[stretch] = random.integers(256, size=1 if one_value else size)
    return piece


def _truncate(piece: Octets, stream: Octets, random: Random) -> Octets:
    return piece[: int(random.integers(piece.size + 1))]


_MUTATIONS: tuple[Callable[[Octets, Octets, Random], Octets], ...] = (
    _flip,
    _overwrite,
    _drop,
    _repeat,
    _insert,
    _lose_stretch,
    _repeat_stretch,
    _splice,
    _garbage,
    _truncate,
)
