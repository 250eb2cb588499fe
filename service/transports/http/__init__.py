"""Speaks HTTP: reads requests, calls the data plane, writes its answers.

uvicorn accepts the connections and calls `protocol.py` for each; Starlette routes the requests to
`app.py` and, below /v2, to `oip.py`. The package owns the limits of heads, bodies and connections.
Begin with `app.py`.
"""
