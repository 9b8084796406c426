"""Sessions read for their shape: tokens in and out, padding before the task, distance from home."""
