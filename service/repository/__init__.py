"""Which versions of models there are, which are loaded, and which answer.

The data plane calls this room: it asks the `Catalog` for what answers a request, hands operators'
calls to the `Control`, and starts and stops the `Reconciler`. The room owns the model repository on
disk, the desired state of the models, and which networks are in memory. It never sees a picture,
forms no batches and knows no transport.

Begin with `catalog.py`, the models of one worker. A change on disk goes from `watcher.py` through
`reconciler.py` and `version_set.py` to `rollout.py` and `loader.py`.
"""
