"""What left the premises, and the proof that no record of it was altered (0114)."""
