"""Discrete-time modes of training: which frequencies a curvature predicts, and which are observed."""
