"""Parts that in-context and retrieval editing share: the edits as facts, their embedding, the text before a prompt."""
