"""Pictures of curvature, drawn from tables alone, the same bytes for the same rows; a file for each kind."""
