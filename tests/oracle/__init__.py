"""Slow, readable re-statements of what the Rust core computes. Nothing here imports the core."""
