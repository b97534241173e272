"""Passkeys: signing in by what a device holds, without a password."""
