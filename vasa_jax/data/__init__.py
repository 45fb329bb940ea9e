"""Clips on disk and on their way to the accelerator (VASA-1 section 4 trains on short clips of one face each).

`records` says what a clip is as bytes, `labels` and `pictures` what is in it; `shards` reads clips from disk, and
`pipeline` turns them into batches in a reproducible order.
"""

from vasa_jax.data.pictures import encode_picture
from vasa_jax.data.records import Clip, CorruptRecordError, Record, StoredClip, read_clip, write_clip, write_shard
from vasa_jax.data.shards import open_shards

__all__ = [
    "Clip",
    "CorruptRecordError",
    "Record",
    "StoredClip",
    "encode_picture",
    "open_shards",
    "read_clip",
    "write_clip",
    "write_shard",
]
