"""Parts that methods share which train on prompt and answer: their token rows, and states by edit batch."""
