"""Slow, readable models that the fast ones are compared with. They share no code with them."""
