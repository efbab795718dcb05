"""Options that installers share."""

from __future__ import annotations

from flyte import _image as flyte_layers

from buildkit_builder.image.spec import PipOptions


def pip_options(layer: flyte_layers.PipOption) -> PipOptions:
    """The options of a layer that installs Python packages."""
    return PipOptions(
        index_url=layer.index_url,
        extra_index_urls=tuple(layer.extra_index_urls or ()),
        pre=layer.pre,
        extra_args=layer.extra_args,
    )
