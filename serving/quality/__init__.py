"""Quality over time: fixed prompts, and each target compared with how it once answered (0121)."""
