"""What a measurement takes before it is taken: memory, products and time, and the plan that fits."""
