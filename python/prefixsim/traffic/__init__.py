"""Requests made of conversations, of shapes, and of samples."""
