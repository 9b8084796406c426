"""Reports: a run as a page and as numbers that people read."""
