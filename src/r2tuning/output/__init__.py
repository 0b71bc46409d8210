"""What users get to see and keep: one small writer for each form of a result."""
