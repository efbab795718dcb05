"""What a daemon is asked, what it answers, and its failures in words.

Import the modules themselves; this package imports nothing, so `api.events` costs no gRPC.
"""
