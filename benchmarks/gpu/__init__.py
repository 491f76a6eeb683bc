"""The methods and the evaluation at full size on one GPU."""
