"""What operators set: settings, keys and TLS, paths, cores, versions to serve.

Every room may import this one; it imports only `manifest`. `app` reads the settings once at start
and passes them on, so that no other room reads a ZOO_ variable. What the machine allows is found
out here as well: cores, the memory of a container, which processes live. This room starts no thread
or process and loads no model; of the repository it only lists folder names.

Begin with `settings.py`, where each setting stands with its default and its unit; `load` checks
them.
"""
