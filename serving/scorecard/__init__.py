"""How each third party did in a month: promised against measured, from the attempts (0130)."""
