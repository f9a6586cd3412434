"""One module a section of the report: from a snapshot of the store to blocks."""
