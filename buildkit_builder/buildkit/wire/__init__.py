"""The wire contract: generated messages, and the service paths in `services`."""
