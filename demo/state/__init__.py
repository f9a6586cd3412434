"""A visitor's choices, and the links that hold them."""
