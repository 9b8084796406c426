"""A small instrument that the suite runs through the whole host; it needs no torch."""
