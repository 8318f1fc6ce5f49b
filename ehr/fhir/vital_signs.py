"""The LOINC codes of vital signs, by name.

Source:  FHIR R4 observation-vitalsigns.html (profiles of the vital signs); LOINC
"""

from typing import Final

PULSE: Final = "8867-4"
TEMPERATURE: Final = "8310-5"
BREATHS: Final = "9279-1"
PRESSURE: Final = "85354-9"
"""The panel of the next two."""
SYSTOLIC: Final = "8480-6"
DIASTOLIC: Final = "8462-4"
OXYGEN: Final = "59408-5"
"""Saturation by pulse oximetry; OXYGEN_ARTERIAL is the saturation of arterial blood, however measured."""
OXYGEN_ARTERIAL: Final = "2708-6"
WEIGHT: Final = "29463-7"
WEIGHT_MEASURED: Final = "3141-9"
HEIGHT: Final = "8302-2"
BODY_MASS_INDEX: Final = "39156-5"
HEAD_CIRCUMFERENCE: Final = "8287-5"

ALL: Final = frozenset(
    {
        PULSE,
        TEMPERATURE,
        BREATHS,
        PRESSURE,
        SYSTOLIC,
        DIASTOLIC,
        OXYGEN,
        OXYGEN_ARTERIAL,
        WEIGHT,
        WEIGHT_MEASURED,
        HEIGHT,
        BODY_MASS_INDEX,
        HEAD_CIRCUMFERENCE,
    }
)
