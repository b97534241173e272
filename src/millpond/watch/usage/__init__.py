"""Usage: what runs have used, by day, project, person, pipeline and node, and what it cost."""
