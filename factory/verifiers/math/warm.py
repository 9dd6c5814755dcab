"""What the fork server of the algebra loads before any answer comes: sympy, math-verify, and its grammar, which is
built when the first expression is read (0.1 s)."""

from factory.verifiers.math.algebra import equal

equal("\\frac{1}{2} + x^2", "x^2 + \\sqrt{2}", {})
