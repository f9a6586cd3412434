"""Names of the folders and files of a store."""

WORK = ".pulling"
"""Folder of the store where downloads lie until they are whole; an interrupted one continues from its files."""
