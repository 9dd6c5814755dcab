"""Turning phrases that no rule of the pruner knows, for chains that are spliced to measure it.

They were written before the rules. Those that a rule came to match were taken out, which leaves the harder ones; a unit
test holds that none is matched.
"""

from __future__ import annotations

HELD_OUT = (
    "I have gone astray somewhere.",
    "Strike all of the above.",
    "None of this is getting me anywhere.",
    "I no longer believe that.",
    "Looking at it once more, I distrust where this is going.",
    "Clean slate.",
    "Forget what I wrote so far.",
    "That cannot have been what was meant.",
    "My reasoning above is flawed.",
    "Time to rethink.",
    "I doubt the setup I chose.",
    "I should throw this out.",
    "The numbers refuse to cooperate.",
    "Disregard the preceding lines.",
    "Here my argument breaks down.",
    "This path is a cul-de-sac.",
    "Let us wipe the board.",
    "Something is off here.",
    "I took a false step.",
    "That was a poor choice of unknowns.",
    "I overlooked a condition.",
    "It is time for a second attempt, with more care.",
    "I have lost the thread.",
    "Cancel that.",
    "This is going in circles.",
    "I must have slipped.",
    "Not convincing.",
    "The approach above has a gap that I see no way to close.",
    "I will set this aside and begin anew.",
    "Nope.",
    "An honest look says that I am lost.",
    "Better to do it properly this time.",
    "I withdraw what I said.",
    "Reading the statement again, I see that I had it backwards.",
    "Enough of this.",
    "The foundation is shaky, so I rebuild.",
    "Turning the page.",
)
