"""What tasks have used: read for the rooms above, which sum it up and show it."""
