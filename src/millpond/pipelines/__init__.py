"""Pipelines: versions compiled from users' code, forms, runs with their steps and tasks, outputs."""
