"""Review by people: sampled conversations, complaints, what was judged and appealed (0120)."""
