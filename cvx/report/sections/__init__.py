"""The content of the sections: a snapshot of the store → blocks, one module for each subject."""
