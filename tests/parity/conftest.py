"""The comparisons with torch itself are collected where torch is installed; `make parity` installs it."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["against_torch"]
