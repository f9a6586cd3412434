"""How the page serves many visitors: fair queue, rate limit, worker, memory."""
