"""Runs: started by people, driven step by step under a lease, recorded exactly once."""
