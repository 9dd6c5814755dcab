"""Mathematical answers: what was answered (`extract`), what it says (`reading`), and whether it equals the reference.

Most pairs are decided by `comparing`, which is exact and takes well under a millisecond; what takes algebra is asked
of `algebra`, which runs in a killable process behind a deadline. `verifier` puts them together.
"""
