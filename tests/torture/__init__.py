"""Whatever happens to a run is harmless or named: ``make torture`` tries it, and writes a table.

A section is a function that yields, for each thing that it tries, how that ended
(:class:`tests.torture.outcomes.Outcome`).
"""
