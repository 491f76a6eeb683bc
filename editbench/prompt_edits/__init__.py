"""Parts that in-context and retrieval editing share: the edits as facts, their embedding, what stands before a prompt."""
