"""The room of chapter "The gated MLP": its figures and its exercises."""
