"""How long the words of a stimulus are."""
