"""Sets up machines: over SSH or here, each step looked at first, told, and safe to repeat."""
