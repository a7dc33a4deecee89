"""The room of chapter "Attention and memory": its figures and its exercises."""
