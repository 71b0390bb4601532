"""What the guard finds and what it costs, measured."""
