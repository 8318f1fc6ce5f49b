"""How the simulated gateway misbehaves: rates are shares of calls or dossiers; one seed, one misbehaviour."""

import hashlib
from dataclasses import dataclass
from typing import Final

_SPAN: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Faults:
    """Nothing by default.

    rejections        dossiers refused for a reason only the insurer knows (price list, card on its books)
    unavailable       calls answered with HTTP 503 before anything is read
    lost              files taken in, but answered with HTTP 500: the sender cannot know
    wrong_totals      answers whose total is not that of their lines
    answer_after_s    seconds until a file has its answer
    in_parts          the first question is answered for half of the dossiers only
    token_life_s      how long a token lasts
    calls_per_s       more calls of one account in a second are answered with HTTP 429; 0 = no bound
    """

    seed: int = 20261122
    rejections: float = 0.0
    unavailable: float = 0.0
    lost: float = 0.0
    wrong_totals: float = 0.0
    answer_after_s: float = 0.0
    in_parts: bool = False
    token_life_s: float = 3600.0
    calls_per_s: int = 0

    def strikes(self, rate: float, *about: object) -> bool:
        """True for a share `rate` of all things; always the same for the same thing."""
        text = "\x1f".join(map(str, (self.seed, *about)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) < rate * _SPAN
