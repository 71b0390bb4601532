"""Files and batches: work that may wait, done in the room that people leave (0125)."""
