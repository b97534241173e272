"""Machines: the nodes that run tasks; how they join, who they are, and how they are."""
