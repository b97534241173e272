"""The door: what nodes, and only nodes, ask of the host, each known by its certificate."""
