"""Langevin dynamics on the Poincaré ball: integrator, fields, and the operators of a critic."""
