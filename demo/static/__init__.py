"""Style, script and theme of the whole page."""
