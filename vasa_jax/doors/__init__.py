"""The doors: they parse flags, call one function and report. `infer.py` and `train.py` of a checkout and the installed
commands `vasa-infer` and `vasa-train` are the same `main`."""
