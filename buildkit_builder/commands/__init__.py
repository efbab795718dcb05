"""The commands of `buildkit-builder`, a module each."""
