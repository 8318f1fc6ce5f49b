"""Persons: the city's view of a human being, made of links to source Patients that can be taken back."""

from ehr.identity.link import PersonLinker
from ehr.identity.lookup import Link, by_national_id, links_of, person_of, shards_of

__all__ = ["Link", "PersonLinker", "by_national_id", "links_of", "person_of", "shards_of"]
