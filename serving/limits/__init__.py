"""What callers may ask for, counted over one process or many."""
