"""What methods share that train on prompt and answer: token rows, gradients, trained networks, states by batch."""
