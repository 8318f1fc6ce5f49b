"""FHIR search: parse → plan → compile → page → include. Read in that order."""
