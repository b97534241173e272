"""A look into files: the first lines of a text, the first rows of a table, an image."""
