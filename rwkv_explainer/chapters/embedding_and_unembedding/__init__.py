"""The room of chapter "Embedding and unembedding": its figures and its exercises."""
