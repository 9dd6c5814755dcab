"""Runs programs that a model wrote, and lets nothing out. Knows nothing of models or of the factory.

`base` has the nouns and the contract, `choose` picks a backend, `pool` runs programs in it, `conformance` attacks it.
Everything but `remote` needs the standard library only. README.md says what each backend promises.
"""
