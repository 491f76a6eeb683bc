"""What methods share that train on prompt and answer: token rows, modules' gradients, trained networks, states by batch."""
