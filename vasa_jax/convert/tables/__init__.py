"""One table of rules a checkpoint family; each module has a mapping `NETWORKS` of names to networks."""
