"""Commands: what a person types, one module per room; each is a thin skin over the SDK."""
