r"""Multiple choice: which letter does the answer claim?

Parameters of a check: `choices` (capital letters, or how many there are; A to E by default, or as many as there are
options) and `options` (the text of each choice, so that the text may stand for the letter). The reference is a letter,
or an index: 0 is A, 1 is B, whatever the choices.

The answer stands after the last `</think>`, or in the whole text where there is no thinking. The first of these rules
that finds a claim decides, by what is claimed on one line, the *final statement*:

1. The line of the last `\boxed{}`: letters in boxes and after an "answer" on it. A box that holds no choice leaves it
   to the other rules, from its line on.
2. The last line with an explicit claim: "answer: B", "the answer is B", "the correct option is (B)"; or the last line
   of all, if it is a letter alone or the text of an option. "The answer is none of them" claims nothing, and nothing
   before it counts.
3. The last line of all, with "(B)", "**B**", "option B" or "B is correct" in it; what it calls wrong is not claimed,
   and nothing is where it speaks of "none of", "neither" or "cannot".
4. The last line of all, if it begins with "B)" or "B.".

A last line that begins with a letter, as the line before it does, is the end of a list of options, of which 3 and 4
read nothing.

A bare capital counts only where its clause ends after it, or a word such as "because" follows, so that neither "A" nor
"I" in prose is taken for an answer ("the answer is A dog"); a bare small letter, only where the clause ends. In a list
("A, B and C", "A or B") all are claimed. A letter that is no choice claims nothing. An option's text must be the whole
statement; case, white space and punctuation around it do not count. A text that is itself a letter is not read as one.

FAIL: no answer, a box that holds no choice, another letter, several letters on the final statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PlainValidator, TypeAdapter

from factory.errors import ConfigError, VerifierError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers import params as parameters
from factory.verifiers.answers import after_thinking, last_box, shown
from factory.verifiers.base import Finding
from factory.verifiers.params import Params

# Every pattern is for a line in which white space was collapsed, and has no two repetitions side by side that could
# share a text: none takes more than linear time.
CUE = re.compile(
    r"\b(?:answers?(?: choice| option)?|solution|(?:correct|right|best) (?:choice|option|one|letter))\b"
    r"(?: (?:to|for|of) [^.:;]{1,80}?)?"
    r"(?: (?:is|are|was|(?:would|should|must|will) be)\b(?: (?:therefore|thus|then|clearly))?:?| ?[:=]| ?[-=]>) ?",
    re.IGNORECASE,
)
LEAD = re.compile(r"(?:the )?(?:correct )?(?:option|choice|letter|answer)(?![a-z])[ _:]{0,2}", re.IGNORECASE)
NAMED = re.compile(r"\b(?:option|choice)(?:[ _]|(?=[(\[]))", re.IGNORECASE)
BOLD = re.compile(r"\*\*\(?([A-Z])(?:\)|[.:)] ?[^*]*)?\*\*")
PARENTHESISED = re.compile(r"\(([A-Z])\)")
RIGHT = re.compile(
    r"(?:^|[.,;:] |\b(?:so|thus|hence|therefore|that) )([A-Z]) is (?:the )?(?:answer|(?:correct|right|best)\b)",
    re.IGNORECASE,
)
REJECTED = re.compile(
    r"[^ ]{0,3} (?:is|was|are|were|can)(?:n't| ?not| clearly| also)? ?(?:not|incorrect|wrong|false)\b"
)
DENIED = re.compile(r"\W?(?:none|not|neither|cannot|unknown|undetermined)\b", re.IGNORECASE)
NONE = re.compile(r"\b(?:none of|neither|cannot)\b", re.IGNORECASE)
WRAPPED = re.compile(r"[(\[{\"'“‘]([A-Za-z])[.)\]}\"'”’]+")
CAPITAL = re.compile(
    r"([A-Z])(?=$|[,:;?)\]}\"”/]|[.!'’](?!\w)| [-–—(&/]"
    r"| (?:and|as|because|based|but|by|due|for|from|given|if|in|or|since|so|when|where|which|with)\b)"
)
SMALL = re.compile(r"([a-z])(?=$|[,:;?)\]}\"”]|[.!](?!\w))")
LABEL = re.compile(r"([A-HJ-Z])(?![\w'’+#*-])")
NEXT = re.compile(r",? (?:and|or|&) |, ?| ?/ ?")
SUBJECT = re.compile(r"[^ ]{0,3} (?:is|are|was|were|would|does|do|did|has|can|could|cannot|says|gives)\b")
FIRST = re.compile(r"\(?([A-Z])[.):](?= )")
LISTED = re.compile(r"\(?(?:option |choice[ _])?[A-Z][.):]", re.IGNORECASE)
BOXED = re.compile(r"\\boxed ?\{([^{}]*)\}")
DRESSED = re.compile(r"\\(?:text|math)[a-z]*\{([^{}]*)\}")
NOISE = re.compile(r"</?answer>|\\[()\[\],; _]|[$`]|__")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WIDE = str.maketrans("（）：，．", "():,.")
AROUND = " .,:;!?*()[]{}\"'“”‘’"

LONGEST = 2000
"""Characters of a statement that are read after a cue."""


def _choices(value: object) -> tuple[str, ...]:
    if type(value) is int:
        value = list(ALPHABET[:value]) if 2 <= value <= len(ALPHABET) else None
    letters = value if isinstance(value, list) else []
    if len(letters) < 2 or not all(isinstance(letter, str) for letter in letters) or not _are_letters(letters):
        raise ValueError(f"must be 2 to {len(ALPHABET)} different capital letters, or how many there are")
    return tuple(letters)


def _are_letters(letters: list[str]) -> bool:
    return set(letters) <= set(ALPHABET) and len(set(letters)) == len(letters)


class ChoiceParams(Params):
    """What can be chosen."""

    choices: Annotated[tuple[str, ...] | None, PlainValidator(_choices)] = None
    options: list[Annotated[str, Field(min_length=1)]] = Field(default=[], min_length=2, max_length=len(ALPHABET))


CHOICE = TypeAdapter(ChoiceParams)
KNOWN = list(ChoiceParams.model_fields)


@dataclass(frozen=True, slots=True)
class Question:
    """The parameters of a check, checked."""

    letters: tuple[str, ...]
    texts: Mapping[str, tuple[str, ...]]
    """The letters of each option's text, as `_text` writes it; several where options share a text."""


class ChoiceVerifier:
    """Judges answers to questions of multiple choice."""

    name = "choice"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown or malformed."""
        _question(params)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        """One finding: of the letters claimed. Raises VerifierError for a reference that is no choice."""
        question = _question(params)
        right = _reference(question, problem.reference)
        rule, letters = _claimed(question, after_thinking(attempt.text))
        if not letters:
            return [Finding(Aspect.ANSWER, Outcome.FAIL, None, rule)]
        claims = f"claims {_listed(letters)} {rule}"
        if letters == [right]:
            return [Finding(Aspect.ANSWER, Outcome.PASS, right, claims)]
        return [Finding(Aspect.ANSWER, Outcome.FAIL, ", ".join(letters), f"{claims}, where {right} is right")]

    def as_attempt(self, reference: str) -> Attempt:
        """The letter after "Answer:"; no model sampled it."""
        return Attempt((Span(f"Answer: {letter_of(reference) or reference}", Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer."""
        return Attempt(())


def letter_of(reference: str) -> str | None:
    """The letter that a reference names; None where it names none."""
    written = reference.strip()
    if re.fullmatch("[0-9]{1,2}", written):
        return ALPHABET[int(written)] if int(written) < len(ALPHABET) else None
    return written.upper() if re.fullmatch("[A-Za-z]", written) else None


def _question(params: Mapping[str, Any]) -> Question:
    check = parameters.read("choice", CHOICE, params, KNOWN)
    letters = check.choices or tuple(ALPHABET[: len(check.options) or 5])
    if check.options and len(check.options) != len(letters):
        raise ConfigError(f"choice: options: {len(check.options)} texts for {len(letters)} choices")
    texts: dict[str, tuple[str, ...]] = {}
    for letter, option in zip(letters, check.options, strict=False):
        text = _text(_flat(option))
        texts[text] = (*texts.get(text, ()), letter)
    return Question(letters, {text: found for text, found in texts.items() if not re.fullmatch("[a-z]?", text)})


def _reference(question: Question, reference: str | None) -> str:
    letter = letter_of(reference or "")
    if letter not in question.letters:
        raise VerifierError(f"the reference {reference!r} is none of {_listed(question.letters)}")
    return str(letter)


def _listed(letters: Iterable[str]) -> str:
    *first, last = letters
    return f"{', '.join(first)} and {last}" if first else last


# --- which statement is the final one


def _claimed(question: Question, text: str) -> tuple[str, list[str]]:
    """By which rule letters are claimed, and the letters; or why there are none."""
    box = last_box(text)
    if box is None:
        return _stated(question, text)
    if box.content is None:
        return "the last \\boxed is not closed", []
    start = text.rfind("\n", 0, box.start) + 1
    end = text.find("\n", box.end)
    before, after = _flat(text[start : box.start]), _flat(text[box.end : end if end >= 0 else None])
    contents = [*BOXED.findall(f"{before} {after}"), _flat(box.content)]
    boxed = {letter for content in contents for letter in _content(question, content)}
    if boxed:
        return "in \\boxed", sorted({*boxed, *_cued(question, before), *_cued(question, after)})
    rule, letters = _stated(question, text[start:])
    return (rule, letters) if letters else (f"unreadable answer in \\boxed: {shown(contents[-1])}", [])


def _stated(question: Question, text: str) -> tuple[str, list[str]]:
    """The same where nothing is boxed."""
    lines = [line for raw in text.split("\n") if (line := _flat(raw))]
    for rule, letters in _statements(question, lines):
        if letters is None:
            return f"no answer: {rule}", []
        if letters:
            return rule, sorted(letters)
    return "no answer", []


def _statements(question: Question, lines: list[str]) -> Iterator[tuple[str, set[str] | None]]:
    """What lines claim by each rule, None where one says that nothing is right. The first that is not empty decides."""
    *before, last = lines or [""]
    yield "in its last line", set(_whole(question, last))
    for line in reversed(lines):
        letters = set(_cued(question, line))
        yield "after 'answer'", letters
        if not letters and any(DENIED.match(line, cue.end()) for cue in CUE.finditer(line)):
            yield "it says that nothing is right", None
    if not (before and LISTED.match(last) and LISTED.match(before[-1])):
        yield "in its last line", set(_named(question, last))
        yield "at the beginning of its last line", set(_first(question, last))


def _flat(line: str) -> str:
    """A line without what does not change its words; `**B**` becomes `(B)`."""
    plain = DRESSED.sub(r"\1", NOISE.sub(" ", line.translate(WIDE)))
    bare = BOLD.sub(r" (\1) ", " ".join(plain.split())).replace("**", " ")
    return " ".join(bare.split())


# --- what a statement claims


def _content(question: Question, content: str) -> list[str]:
    """The letters that the words of a statement are or begin with."""
    if by_text := question.texts.get(_text(content)):
        return list(by_text)
    lead = LEAD.match(content)
    letters, end = _letters(question, content, lead.end() if lead else 0)
    # "B) Paris" where Paris is C claims both.
    contradicting = question.texts.get(_text(content[end:]), ()) if letters else ()
    return letters if set(letters) & set(contradicting) else [*letters, *contradicting]


def _letters(question: Question, line: str, place: int) -> tuple[list[str], int]:
    """Letters from a place on, "A", "(A) or (B)", "A, B and C", and where they end."""
    letters: list[str] = []
    found = _letter(question, line, place, WRAPPED, CAPITAL, SMALL)
    while found:
        letters.append(found[1].upper())
        place = found.end()
        link = NEXT.match(line, place)
        found = _letter(question, line, link.end(), WRAPPED, CAPITAL, SMALL) if link else None
        # "A, as B is wrong" goes on about B and does not claim it.
        found = None if found and SUBJECT.match(line, found.end()) else found
    return letters, place


def _letter(question: Question, line: str, place: int, *patterns: re.Pattern[str]) -> re.Match[str] | None:
    """A choice at a place, in the first of the forms that it has."""
    for pattern in patterns:
        if (found := pattern.match(line, place)) and found[1].upper() in question.letters:
            return found
    return None


def _cued(question: Question, line: str) -> Iterator[str]:
    for cue in CUE.finditer(line):
        yield from _content(question, line[cue.end() : cue.end() + LONGEST])


def _whole(question: Question, line: str) -> Iterable[str]:
    """Letters that a line claims as a whole."""
    if by_text := question.texts.get(_text(line)):
        return by_text
    bare = line.strip(AROUND).upper()
    return [bare] if bare in question.letters else []


def _named(question: Question, line: str) -> Iterator[str]:
    """Letters that a line claims anywhere, without those that it calls wrong."""
    if NONE.search(line):
        return
    named = (_letter(question, line, name.end(), WRAPPED, CAPITAL, LABEL) for name in NAMED.finditer(line))
    for found in (*PARENTHESISED.finditer(line), *RIGHT.finditer(line), *named):
        if found and found[1] in question.letters and not REJECTED.match(line, found.end()):
            yield found[1]


def _first(question: Question, line: str) -> Iterable[str]:
    found = FIRST.match(line)
    return _content(question, line) if found and found[1] in question.letters else []


def _text(words: str) -> str:
    """The form in which an option's text is compared."""
    return " ".join(words.split()).strip(AROUND).casefold()
