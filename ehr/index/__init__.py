"""The search index: what a resource says, as hashes, folded strings, date ranges and numbers."""
