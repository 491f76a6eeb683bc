"""A package that adds a method, a metric, a dataset, an architecture and a tracker to editbench, by entry points."""
