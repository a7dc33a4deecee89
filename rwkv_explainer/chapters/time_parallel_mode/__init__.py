"""The room of chapter "Time-parallel mode": its figures and its exercises."""
