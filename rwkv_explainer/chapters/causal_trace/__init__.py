"""The room of chapter "Causal trace": its figures and its exercises."""
