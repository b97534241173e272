"""Accounts: users, sessions, API tokens, setting up and signing in."""
