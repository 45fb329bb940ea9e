"""Clips on disk and on their way to the accelerator (VASA-1 section 4 trains on short clips of one face each).

`records` says what a clip is as bytes; `pipeline` turns shards of clips into batches in a reproducible order.
"""

from vasa_jax.data.records import CorruptRecordError, read_clip, write_clip, write_shard

__all__ = ["CorruptRecordError", "read_clip", "write_clip", "write_shard"]
