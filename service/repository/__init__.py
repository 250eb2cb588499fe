"""Which versions of models there are, which are loaded, and which answer."""
