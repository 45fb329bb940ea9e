"""Inputs that want to do harm, by kind, for `benchmarks.fuzz`: sound files, damaged ones, and ones that somebody made.

A kind is a function of a random generator, a folder with sound files (`seeds`) and an empty box; it writes the case's
files into `box.input` and returns the `Case`. What the door makes of it may lie in `box.output` alone.
"""
