"""Sessions held with a local model, each in a process of its own."""
