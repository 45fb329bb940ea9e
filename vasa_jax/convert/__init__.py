"""Torch checkpoints to arrays, without torch and without running what a file asks for."""
