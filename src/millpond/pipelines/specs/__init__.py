"""Pipelines and their versions: pushed code, compiled in the sandbox to one specification."""
