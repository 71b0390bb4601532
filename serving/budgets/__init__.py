"""Budgets in money: definitions, leased slices of them, and what a call may still cost (0111)."""
