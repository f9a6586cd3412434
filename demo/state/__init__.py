"""What a visitor has chosen, and how a link says it."""
