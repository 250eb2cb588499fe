"""The BentoML service: ImageNet classification behind HTTP. It never imports torch."""

__version__ = "0.1.0"
