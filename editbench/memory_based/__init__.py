"""What methods share that keep their edits beside the weights: SCEN, GRACE, WISE and MELO."""
