"""A library: many videos indexed once, all of them asked with one sentence."""
