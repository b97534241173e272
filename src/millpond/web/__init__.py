"""The web frame: current actor, errors as problems, paging, idempotency, live events, health."""
