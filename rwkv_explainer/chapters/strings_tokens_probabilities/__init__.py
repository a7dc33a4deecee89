"""The room of chapter "Strings, tokens, probabilities": its figures and its exercises."""
