"""Scripts: any program, undecorated, run from the browser as it is."""
