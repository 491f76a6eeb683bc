"""What ROME, MEMIT with its relatives, and NSE share: a value found at the subject, and written into MLP weights."""
