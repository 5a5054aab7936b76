"""Trace formats: a registry of small readers and writers."""
