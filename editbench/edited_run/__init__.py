"""What one does with the edited model of a finished run: list its edits, ask it, take an edit back, export it."""
