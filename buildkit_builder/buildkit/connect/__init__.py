"""How a daemon is reached: channels, dialers, and relays between them."""
