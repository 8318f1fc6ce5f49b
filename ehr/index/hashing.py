"""Everything matched by equality → keyed signed 64-bit hashes.

A keyed hash says nothing without the installation's key, and 64 bits are an index entry of 8 bytes.

Forms    token       system|code ; code ; |code where there is no system ; system|   (R4 3.1.1.4.10)
         reference   56 bits of the target and 8 bits of the parameter's slot, so that SQL can
                       make one from its target:     (self # salt) & -256 | slot
                       and find its target again:    (token # salt) & -256      (_has, without a join table)
         self        the resource's own Type/id, low 8 bits zero; always tokens[1]. tokens[2]: ehr.index.main_code
         shard       all 64 bits of Type/id: a Patient's shard is that of everything that belongs to it
Source:  xxHash 3, 64 bit, seeded
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from xxhash import xxh3_64_intdigest

_SIGN: Final = 1 << 63
_WRAP: Final = 1 << 64
TARGET_MASK: Final = -256
"""The 56 bits of a reference token that name its target."""

CACHE_MAX: Final = 65_536
"""References of one patient's resources repeat; a full cache is emptied."""


class Hasher:
    def __init__(self, hash_key: int) -> None:
        self._seed = hash_key % _WRAP
        self._shards: dict[str, int] = {}
        self._salts: dict[int, int] = {}
        self.targets: dict[str, int | None] = {}
        """Of texts of references: self tokens of what they name (ehr.index.references)."""

    def digest(self, text: str) -> int:
        """The keyed hash of a text as PostgreSQL's bigint."""
        value = xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"), self._seed)
        return value - _WRAP if value >= _SIGN else value

    def code(self, param_id: int, code: str) -> int:
        """A token's code, whatever its system."""
        return self.digest(f"c{param_id}\x1f{code}")

    def token(self, param_id: int, system: str | None, code: str) -> int:
        """A token with its system; None: a token that has none."""
        if system:
            return self.digest(f"t{param_id}\x1f{system}\x1f{code}")
        return self.digest(f"n{param_id}\x1f{code}")

    def further(self, param_id: int, system: str | None, code: str) -> int:
        """A coding that is not the first of its concept (ehr.index.main_code)."""
        return self.digest(f"f{param_id}\x1f{system or ''}\x1f{code}")

    def system(self, param_id: int, system: str) -> int:
        """Any token of a system."""
        return self.digest(f"s{param_id}\x1f{system}")

    def uri(self, param_id: int, value: str) -> int:
        """A uri, canonical, or a reference that is no local Type/id."""
        return self.digest(f"u{param_id}\x1f{value}")

    def text(self, param_id: int, folded: str) -> int:
        """The words a code, a concept or a type of identifier goes by, for :text."""
        return self.digest(f"d{param_id}\x1f{folded}")

    def word(self, param_id: int, word: str) -> int:
        """One word of a text, or its sound."""
        return self.digest(f"w{param_id}\x1f{word}")

    def of_type(self, param_id: int, system: str | None, code: str, value: str) -> int:
        """An identifier with its type, for :of-type."""
        return self.digest(f"y{param_id}\x1f{system or ''}\x1f{code}\x1f{value}")

    def exact(self, param_id: int, value: str) -> int:
        """A string as written, for :exact."""
        return self.digest(f"x{param_id}\x1f{value}")

    def outline(self, param_ids: Iterable[int]) -> int:
        """These parameters have a value, and no others of the type."""
        return self.digest("o" + " ".join(map(str, sorted(param_ids))))

    def present(self, param_id: int) -> int:
        """The parameter has a value: on rows that were indexed before there were outlines."""
        return self.digest(f"p{param_id}")

    def identifier(self, param_id: int, system: str | None, value: str) -> int:
        """The identifier inside a reference, for :identifier; system None: it has none."""
        return self.digest(f"it{param_id}\x1f{system}\x1f{value}" if system else f"in{param_id}\x1f{value}")

    def identifier_value(self, param_id: int, value: str) -> int:
        """The identifier inside a reference, whatever its system."""
        return self.digest(f"ic{param_id}\x1f{value}")

    def pair(self, param_id: int, first: str, second: str) -> int:
        """Two components of one element, each as a text form (pair_form)."""
        return self.digest(f"k{param_id}\x1f{first}\x1e{second}")

    def unit(self, system: str | None, code: str) -> int:
        """A quantity's unit or unit system; never 0, which says absent."""
        return self.digest(f"q{system or ''}\x1f{code}") or 1

    def shard(self, type_name: str, id: str) -> int:
        """Where a resource and all that belongs to it lie."""
        return self.shard_of(f"{type_name}/{id}")

    def shard_of(self, reference: str) -> int:
        """shard() of a literal "Type/id"."""
        found = self._shards.get(reference)
        if found is None:
            if len(self._shards) >= CACHE_MAX:
                self._shards.clear()
            found = self._shards[reference] = self.digest(reference)
        return found

    def self_token(self, type_name: str, id: str) -> int:
        """tokens[1] of a resource; the answer to _id where the id column is not at hand."""
        return self.shard_of(f"{type_name}/{id}") & TARGET_MASK

    def contained(self, container: str, fragment: str) -> int:
        """tokens[1] of the contained resource that its container "Type/id" calls "#fragment", whatever its type."""
        return self.digest(f"{container}#{fragment}") & TARGET_MASK

    def salt(self, param_id: int) -> int:
        """What a reference parameter mixes into its tokens."""
        found = self._salts.get(param_id)
        if found is None:
            found = self._salts[param_id] = self.digest(f"r{param_id}")
        return found

    def mixed(self, param_id: int, slot: int) -> int:
        """What self tokens are xored with, as reference_to does in more steps: their low bits are zero."""
        return self.salt(param_id) & TARGET_MASK | slot

    def reference(self, param_id: int, slot: int, type_name: str, id: str) -> int:
        """A local reference to Type/id."""
        return self.reference_to(self.self_token(type_name, id), param_id, slot)

    def reference_to(self, self_token: int, param_id: int, slot: int) -> int:
        """A reference to the resource with this self token. SQL computes the same (ehr.search.compile)."""
        return (self_token ^ self.salt(param_id)) & TARGET_MASK | slot

    def target(self, token: int, param_id: int) -> int:
        """The self token a reference token points to."""
        return (token ^ self.salt(param_id)) & TARGET_MASK


def code_form(code: str) -> str:
    """A component token, whatever its system, for Hasher.pair."""
    return f"c{code}"


def token_form(system: str | None, code: str) -> str:
    """A component token with its system (None: it has none), for Hasher.pair."""
    return f"t{system}\x1f{code}" if system else f"n{code}"


@lru_cache(8)
def hasher_of(hash_key: int) -> Hasher:
    """One for all searches of an installation: it keeps what it has hashed."""
    return Hasher(hash_key)
