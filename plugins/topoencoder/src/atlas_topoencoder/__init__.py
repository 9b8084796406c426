"""A hyperbolic atlas autoencoder, its loss terms and its training."""
