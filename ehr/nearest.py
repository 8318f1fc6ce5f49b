"""A name that is none → the one that was probably meant, for the text of a refusal.

In:      the name as it was sent, the names there are
Out:     "; did you mean family?", or nothing where none is near
Limits:  a name that is longer than any of ours is not compared
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_NEAR: Final = 0.75
"""Of difflib's measure: a letter too many, too few or swapped in a name of five, and not another word."""
_CHARACTERS_MAX: Final = 64


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Upper and lower case are no difference: a wrong one is the likeliest mistake."""
    if len(name) > _CHARACTERS_MAX:
        return ""
    folded = {one.casefold(): one for one in names}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=_NEAR)
    return f"; did you mean {folded[near[0]]}?" if near else ""
