"""Pipelines: compiled versions of users' code, their runs, steps and tasks, and what comes out."""
