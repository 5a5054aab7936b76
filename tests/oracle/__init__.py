"""Slow, readable models that the fast ones are compared with. Nothing here imports the core."""
