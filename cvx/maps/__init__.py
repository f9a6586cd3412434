"""Maps of stored models over sets of images: explanations, class summaries, folders of figures."""
