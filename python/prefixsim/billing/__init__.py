"""Providers' prompt caches: their rules, their prices, and the bill of a trace."""
