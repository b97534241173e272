"""Users, as site administrators see to them."""
