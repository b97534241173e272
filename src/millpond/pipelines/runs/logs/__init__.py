"""Logs of runs: read in pieces in both directions, searched, sent whole; never all at once."""
