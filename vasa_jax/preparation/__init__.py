"""From raw videos to the records that training reads (VASA-1 section 4: clips of 2 to 10 s with one face each).

`config` holds every threshold, `video` makes the clips of one video in bounded memory: `film` decodes, `faces` follows
faces, `sound` reads the voice, `labels` turns landmarks into the numbers of a record, `quality` says what is dropped.
"""
