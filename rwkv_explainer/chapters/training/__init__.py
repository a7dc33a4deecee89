"""The room of chapter "Training": its figures and its exercises."""
