"""The room of chapter "The playground": its figures and its exercises."""
