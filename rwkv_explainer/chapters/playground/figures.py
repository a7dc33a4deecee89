"""Figures of chapter "The playground"."""
