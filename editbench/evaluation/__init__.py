"""Evaluation: a model's answers to records' probes, edited or not, and the perplexity of texts, as rows of scores."""
