"""Attacks that a sandbox must hold against, run on any machine: `factory sandbox check`, or `python -m
sandboxes.conformance` where only the standard library is to be had.

`claims` says what each backend promises, `host` plants what an attack would reach for, `programs` and `protocol` are
the attacks, one property each, and `suite` runs them.
"""
