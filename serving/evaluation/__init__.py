"""Which side is better: sides of a split, question sets asked of two arms, blind votes (0130)."""
