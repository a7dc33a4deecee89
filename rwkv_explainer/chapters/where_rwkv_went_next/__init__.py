"""The room of chapter "Where RWKV went next": its figures and its exercises."""
