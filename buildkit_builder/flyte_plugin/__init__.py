"""BuildKit as Flyte's local image builder: of this package, only this room and the command line import Flyte."""
