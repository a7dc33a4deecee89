"""The room of chapter "Time decay": its figures and its exercises."""
