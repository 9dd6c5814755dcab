"""Runs untrusted programs. Knows nothing of models or of the factory.

No backend is here yet: nothing in the factory runs a program that a model wrote.
"""
