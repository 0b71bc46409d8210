"""Evaluation: splits, predictions, scores and calibration."""
