"""Make reproducible random numbers: the same seed and path give the same numbers, in any order of asking.

Why:     citizen 7,000,000 and the episode of tomorrow 10:14 must not depend on what was generated before
Cost:    about 6 us to make one; draws are those of random.Random
"""

from random import Random

import xxhash


def dice(seed: int, *path: int | str) -> Random:
    """A generator of its own for one thing ("citizen", 7)."""
    name = "/".join(map(str, path)).encode()
    return Random(xxhash.xxh3_64_intdigest(name, seed=seed & 0xFFFF_FFFF_FFFF_FFFF))  # noqa: S311 - simulation


def poisson(random: Random, mean: float) -> int:
    """A Poisson number: by exponential gaps below 30, by the normal approximation above."""
    if mean <= 0:
        return 0
    if mean > 30:
        return max(0, round(random.gauss(mean, mean**0.5)))
    total, count = random.expovariate(1.0), 0
    while total < mean:
        total += random.expovariate(1.0)
        count += 1
    return count


class Wheel:
    """A weighted choice over a fixed list: "A:3 B:1" gives A three times as often."""

    __slots__ = ("_cumulative", "_values")

    def __init__(self, text: str) -> None:
        pairs = [part.rsplit(":", 1) for part in text.split()]
        self._values = [name for name, _ in pairs]
        total = 0
        self._cumulative: list[int] = []
        for _, weight in pairs:
            total += int(weight)
            self._cumulative.append(total)

    def turn(self, random: Random) -> str:
        return random.choices(self._values, cum_weights=self._cumulative)[0]
