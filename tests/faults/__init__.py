"""Faults: real processes, killed, cut, frozen and duplicated; one oracle says whether anything was lost.

Start reading in `cases.py`; `python -m tests.faults` runs them all.
"""
