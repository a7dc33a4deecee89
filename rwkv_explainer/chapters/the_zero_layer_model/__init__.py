"""The room of chapter "The zero-layer model": its figures and its exercises."""
