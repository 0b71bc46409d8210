"""The HTTP API of ``r2tuning serve``, and what answers it: a worker with the model, jobs, pictures, previews."""
