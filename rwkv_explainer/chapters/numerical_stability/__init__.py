"""The room of chapter "Numerical stability": its figures and its exercises."""
