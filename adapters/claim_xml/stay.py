"""What every row of a dossier belongs to: the Bundle in the making, the patient and the visit."""

from dataclasses import dataclass

from adapters.draft import Draft, Tree
from ehr.fhir.elements import reference


@dataclass(frozen=True, slots=True)
class Stay:
    draft: Draft
    patient_url: str
    visit_url: str

    @property
    def patient(self) -> Tree:
        return reference(self.patient_url)

    @property
    def visit(self) -> Tree:
        return reference(self.visit_url)
