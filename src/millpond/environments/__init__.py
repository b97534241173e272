"""Environments: requirements become a hash-locked set of packages, and that a read-only venv."""
