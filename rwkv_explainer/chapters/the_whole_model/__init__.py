"""The room of chapter "The whole model": its figures and its exercises."""
