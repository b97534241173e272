"""Pages of one's API tokens."""
