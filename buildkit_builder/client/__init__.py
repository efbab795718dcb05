"""Talking to a BuildKit daemon: where it is, how to reach it, and what may be asked of it.

Import the modules themselves; this package imports nothing, so `client.events` costs no gRPC.
"""
