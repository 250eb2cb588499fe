"""From a picture's bytes to its pixels, its crops, and one answer.

The data plane calls this room in threads of the pool: `decode` makes an upright RGB image of bytes,
an evaluation protocol cuts it into crops, uint8 [N, height, width, channels], and later averages
what the network says of them. `export` uses the same functions, so that a model is proved on the
pixels that it is served with. The room owns the limits on what one picture may cost. It runs no
network, starts no thread and subtracts no mean: the network's mean and scale lie in its graph.

Begin with `decode.py`, then `protocols.py` and `crops.py`, which has the geometry. `formats.py`,
`png.py` and `exif.py` check a file before Pillow opens it; `resample.py`, `kernels.py` and
`pixels.py` make it fast; `mistaken.py` and `unreadable.py` word the errors.
"""
