"""The use cases, once for all transports: classify, infer, load, unload, list.

Every transport calls the one `DataPlane` of its worker and translates what it returns or raises.
The room owns a request from the moment that its bytes are read to the moment that its answer is
ready: deadlines, admission, retries, top-k. It never sees HTTP or gRPC, and has `imaging` decode
pictures and cut crops, `engine` run networks, and `repository` say which network answers.

Begin with `dataplane.py`; `picture_task.py` follows one picture through the threads.
"""
