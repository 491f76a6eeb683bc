"""Mutants: would the tests notice a wrong sign? See ``__main__.py``."""
