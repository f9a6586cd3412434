"""What each model draws on for a class."""
