"""Parts that tabs are made of; a part with a script or style has a folder for all three."""
