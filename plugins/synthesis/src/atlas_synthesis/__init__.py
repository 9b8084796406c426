"""The synthesis plugin: one package, one model, one answer."""
