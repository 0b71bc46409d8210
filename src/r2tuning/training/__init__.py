"""Training: recipes, data, targets, losses and the loop."""
