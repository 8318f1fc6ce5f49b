"""Place people in the age pyramid of Viet Nam so that proportions are exact and numbers can be unique.

In:      slot 0 … SLOTS-1
Out:     Cell(sex, age, rank, size): which sex and year of age, and which of the slots of that cell this is
Why:     a fixed table, not a dice: with one slot per 0.025 % of the people every run has the same proportions,
         and (cell, rank, round) names a citizen once, which is what makes the 12-digit numbers unique
Source:  2019 Population and Housing Census (General Statistics Office): 24.3 % under 15, 68.0 % 15 to 64, 7.7 % older,
         99.1 men to 100 women, 111.5 boys to 100 girls at birth; five-year groups rounded to fit
"""

from dataclasses import dataclass
from typing import Final

from adapters.facilities.names import Sex

SLOTS: Final = 4_001
"""Prime, so that any step walks through all slots."""

_PER_MILLE: Final[tuple[tuple[int, int, int, float], ...]] = (
    # first age, last age, people of 1,000, women among them
    (0, 4, 80, 0.473),
    (5, 9, 86, 0.475),
    (10, 14, 77, 0.480),
    (15, 19, 66, 0.484),
    (20, 24, 65, 0.494),
    (25, 29, 85, 0.499),
    (30, 34, 85, 0.501),
    (35, 39, 78, 0.502),
    (40, 44, 71, 0.503),
    (45, 49, 65, 0.506),
    (50, 54, 62, 0.513),
    (55, 59, 55, 0.524),
    (60, 64, 48, 0.535),
    (65, 69, 29, 0.552),
    (70, 74, 18, 0.577),
    (75, 79, 12, 0.604),
    (80, 97, 18, 0.655),
)


@dataclass(frozen=True, slots=True)
class Cell:
    sex: Sex
    age: int
    rank: int
    size: int


def _weights() -> list[tuple[Sex, int, float]]:
    weights: list[tuple[Sex, int, float]] = []
    for first, last, people, women in _PER_MILLE:
        years = last - first + 1
        # Above 80 each year has fewer people than the one before; below, a group is flat.
        shape = [0.86**year if first >= 80 else 1.0 for year in range(years)]
        for year in range(years):
            share = people * shape[year] / sum(shape)
            weights.append(("male", first + year, share * (1 - women)))
            weights.append(("female", first + year, share * women))
    return weights


def _cells() -> tuple[Cell, ...]:
    weights = _weights()
    total = sum(weight for _, _, weight in weights)
    cells: list[Cell] = []
    reached = 0.0
    for sex, age, weight in weights:
        reached += weight
        size = round(SLOTS * reached / total) - len(cells)
        cells += [Cell(sex, age, rank, size) for rank in range(size)]
    assert len(cells) == SLOTS, "every slot has a cell"
    return tuple(cells)


CELLS: Final = _cells()
"""Slot → cell."""
