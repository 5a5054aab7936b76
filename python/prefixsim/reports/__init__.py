"""Results as tables: for terminals, notebooks and files."""
