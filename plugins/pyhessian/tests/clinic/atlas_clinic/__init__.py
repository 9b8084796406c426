"""Small targets with one ailment each, run through the whole host; healthy ones too."""
