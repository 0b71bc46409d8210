"""Results as text: for terminals, other programs, players and editing programs."""
