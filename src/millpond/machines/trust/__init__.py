"""Trust: how others know that this server is itself; its authority, and what it listens with."""
