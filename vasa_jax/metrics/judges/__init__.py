"""Judges: every number that is claimed of a model, by one protocol, with the same number on true clips beside it.

A judge reads evidence, which is costly and made once (`evidence`, `portraits`), and answers with rows: a value with its
95 % interval over clips, and what true clips score. `motion` judges stage 2 and `portraits` stage 1, `theval` gives
THEval's form, `report` prints. Training, `python -m vasa_jax.metrics evaluate`, `benchmarks.demo_quality` and tests ask
the same judges. Nothing here is ever a training loss.
"""
