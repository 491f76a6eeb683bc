"""Checking what a run claims: `editbench verify` and the functions behind it."""
