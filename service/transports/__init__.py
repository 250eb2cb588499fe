"""The wire: HTTP, gRPC and the Open Inference Protocol, keys and TLS.

`service.app` makes each transport and starts, drains and stops all of them alike. The room owns the
ports, what is read from and written to them, and who may ask for what. It decides nothing about an
answer: it translates a request into a call of the data plane, and what comes back into the wire's
form.

Begin with `base.py`. `http/` and `grpc/` each hold a transport; `oip/` is what both share of the
Open Inference Protocol.
"""
