"""Serve many visitors: fair queue, rate limit, worker threads, memory."""
