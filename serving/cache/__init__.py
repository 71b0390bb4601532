"""Answers that need not be computed again: by input, or whole where that is asked for."""
