"""A judge: a model that says whether generated answers are right, here or behind an HTTP endpoint."""
