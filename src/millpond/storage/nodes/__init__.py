"""Objects on the data disks of the nodes: two copies by digest on different nodes, names here."""
