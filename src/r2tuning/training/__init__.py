"""Training: what the model should have said (targets), and how far it was off (losses)."""
