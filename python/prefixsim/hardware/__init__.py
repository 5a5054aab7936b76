"""Bytes of models, GPUs, and what a step costs on them."""
