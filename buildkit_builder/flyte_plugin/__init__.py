"""BuildKit as Flyte's local image builder: nothing else of this package imports Flyte."""
