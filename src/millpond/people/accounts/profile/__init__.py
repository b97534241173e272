"""One's own account: name, address for mail, password."""
