"""Frozen helper networks with public weights, as Flax modules."""
