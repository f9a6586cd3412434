"""Long jobs that run beside the page: training the starter models, pulling from W&B."""
