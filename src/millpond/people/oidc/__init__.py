"""Signing in through another place, by OpenID Connect."""
