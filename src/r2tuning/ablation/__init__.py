"""Ablations: grids of trainings, the paper's own studies, and their tables."""
