"""Many source Patients that are new at once → the persons of those whose numbers nobody has, in a few statements.

In:      first versions of Patients, stored in this transaction (a chunk of an import)
Out:     claims, person_link and Person of each that shares its numbers with nobody; the others, for PersonLinker
Race:    a number that another transaction takes between the look and the claim begins the transaction anew
Order:   the numbers of all of them are claimed in one order, so that chunks side by side queue and do not deadlock
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ehr.identity import persons
from ehr.identity.normalize import ASSURANCE, Numbers
from ehr.identity.persons import CITY_SCOPE, LinkedPatient
from ehr.ids import new_id
from ehr.store.faults import Raced
from ehr.store.version import Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

Newcomer = tuple[Version, Mapping[str, Any]]


async def begin_persons(uow: "UnitOfWork", numbers: Numbers, many: Sequence[Newcomer]) -> list[Newcomer]:
    """Make the persons that are surely new; returns who states a number that somebody else states too."""
    stated = {version.id: numbers.of(tree) for version, tree in many}
    count = Counter(number.key for of_one in stated.values() for number in of_one)
    owned = await uow.claims.owners(CITY_SCOPE, [("Person", key) for key in count]) if count else {}
    new: dict[str, LinkedPatient] = {}
    others: list[Newcomer] = []
    for version, tree in many:
        of_one = stated[version.id]
        if any(count[number.key] > 1 or ("Person", number.key) in owned for number in of_one):
            others.append((version, tree))
        elif of_one:
            new[new_id()] = LinkedPatient(version.id, ASSURANCE[of_one[0].kind], version.rid, tree)
    wanted = {number.key: person_id for person_id, source in new.items() for number in stated[source.id]}
    if await uow.claims.claim_many(CITY_SCOPE, "Person", wanted) != wanted:
        raise Raced("a number of the chunk was registered by another writer at the same moment")
    await persons.begin(uow, numbers, new)
    return others
