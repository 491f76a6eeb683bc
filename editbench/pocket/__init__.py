"""The pocket world and the two models that know it: a benchmark on a laptop's CPU, with nothing to download.

The world (:mod:`~editbench.pocket.world`) is invented: persons, companies and places, each with three facts, each fact
in six statements and three questions. Since the world is invented, everything about it is known: statements without
training text, subjects that share an answer, subjects that no edit touches. :mod:`~editbench.pocket.dataset_files` has
it as raw records in the published layouts, which the ordinary datasets read.

The models, a Llama and a GPT-2, were trained on nothing but this world (:mod:`~editbench.pocket.train_models`) and
answer nearly every question about it, held-out ones included. They are Hugging Face checkpoints in half precision; edit
them in float32.
"""
