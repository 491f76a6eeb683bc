"""Parts shared by methods that find a value at the subject and write it into MLP weights (ROME, MEMIT, NSE, …)."""
