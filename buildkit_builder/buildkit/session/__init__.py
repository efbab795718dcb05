"""What the daemon may ask of us while it builds: files, credentials, secrets, and a place for its results."""
