"""``editbench tune``: a method's settings for a model, found by equal budgets on records that no stream edits."""
