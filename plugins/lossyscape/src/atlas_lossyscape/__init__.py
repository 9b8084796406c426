"""A vocabulary of the loss landscape, and instruments that can prove it wrong."""
