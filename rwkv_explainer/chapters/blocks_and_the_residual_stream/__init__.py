"""The room of chapter "Blocks and the residual stream": its figures and its exercises."""
