"""Moving an installation's objects from one store to another: copied, verified, then switched."""
