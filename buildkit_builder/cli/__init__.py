"""The command `buildkit-builder`, also mounted as `flyte buildkit`."""
