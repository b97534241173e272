"""Audit: the activity log with its hash chains, seals, export, and proofs that hold off line."""
