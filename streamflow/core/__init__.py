"""The pure core: no client, event loop, clock, logging or randomness."""
