"""One file a DVC stage, plus the few services that stages share. A stage never imports another stage."""

import os

# The numerical libraries read these once, when they are first imported, which happens as soon as a stage's file is.
# Their pools spin at barriers: on a busy machine that costs many times what a second core gives. Our own kernels share
# their work out among threads themselves (`tasks.stage.limit_threads`).
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
