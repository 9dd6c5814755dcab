"""Pairs of answers, by the rule that decides them; none of them needs algebra. `None` is undecided.

The numbers behind a # are issues of huggingface/Math-Verify.
"""

import pytest

from factory.verifiers.math.comparing import compare
from factory.verifiers.math.options import Options

Row = tuple[str, str, bool | None]

NUMBERS: list[Row] = [
    ("1000", "1 000", True),
    ("1000", "1\\,000", True),
    ("1000", "1{,}000", True),
    ("7425000", "7,425,000", True),
    ("15000", "\\$15,\\!000", True),
    ("1000.99", "1,000.99", True),
    ("1000.99", "1000,99", True),
    ("1,22", "1.22", True),
    ("122", "1,22", False),
    ("32349", "32, 349", False),
    ("1,000", "1.000", False),
    ("0,111", "0.111", True),
    ("2", "1 2", None),
    ("12", "1 2", None),
    ("512", "2^3^2", None),
    ("720", "3!!", None),
    ("5", "five", True),
    ("1/2", "0.5", True),
    ("1/2", ".5", True),
    ("\\frac12", "\\tfrac{1}{2}", True),
    ("2/3", "\\frac{2}{3}", True),  # 1
    ("-\\frac{10}{9}", "\\frac{-10}{9}", True),
    ("918\\frac{1}{2}", "918.5", True),
    ("7/2", "3 1/2", True),
    ("3/2", "3\\frac12", False),
    ("-3.5", "-3\\frac{1}{2}", True),
    ("5", "5.001", False),
    ("5", "−5", False),
    ("-5", "−5", True),
    ("100000000000", "99999999999", False),
    ("1.5e3", "1500", True),
    ("1500", "1.5 \\times 10^3", True),
    ("1/3", "0.3333", False),
    ("100/3", "33.3", False),  # 2: rounded is not equal unless the check says so
    ("\\sqrt{2}", "1.4142135623730951", True),
    ("1/12", "0.0833333333333333", True),  # 2
    ("\\sqrt{2}", "1.41421", False),
    ("0.1234567890123", "0.1234567890124", False),
    ("½", "0.5", True),
    ("٣", "3", None),
    ("2^{10}", "1024", True),
    ("3^{2025}", "2^{2025}", False),
    ("5!", "120", True),
    ("\\binom{5}{2}", "10", True),
    ("\\sqrt[3]{27}", "3", True),
    ("|{-3}|", "3", True),
    ("14 - i", "14.0 + -1.0i", True),  # 69
    ("-2\\pi", "-2*pi", True),  # 69
    ("e^{16}-1", "-1 + exp(16)", True),  # 69
    ("\\text{13}", "13", True),  # 37
    ("4210_{5}", "4210_5", True),
]
UNITS: list[Row] = [
    ("10", "10 cm", True),
    ("10\\text{ cm}", "10", True),
    ("10\\text{ cm}", "10\\text{ m}", False),
    ("125 miles", "125\\textnormal{ miles}", True),
    ("15\\mbox{ cm}^2", "15", True),
    ("90^\\circ", "90", True),
    ("90", "90 degrees", True),
    ("\\sin 30^\\circ", "\\sin 30", False),
    ("\\sin 30^\\circ", "\\frac12", None),
    ("10", "\\$10", True),
    ("10", "10 dollars", True),
    ("9", "9 boys", True),
    ("9 boys", "9 children", None),
    ("9 boys", "8 children", False),
    ("10", "10 m", True),
    ("10m", "10", False),
    ("5 cm", "5 centimeters", True),
    ("5\\text{ square inches}", "5", True),
    ("5 m", "500 cm", None),
    ("12 ft^2", "12 square feet", None),
    ("50\\%", "50", True),
    ("50\\%", "0.5", True),
    ("0.335", "33.5 percent", True),
    ("50\\%", "5", False),
]
FORMULAS: list[Row] = [
    ("x^2+2x+1", "(x+1)^2", True),
    ("x^2+2x-1", "(x+1)^2", False),
    ("2-2p", "-2(p-1)", True),
    ("(r+5)(r+5)", "(r+5)^2", True),
    ("\\frac{x+2}{7}", "\\frac{x}{7}+\\frac{2}{7}", True),  # 2
    ("\\frac{1}{\\sqrt{6}}", "\\frac{\\sqrt6}{6}", True),
    ("\\sqrt{3}", "\\sqrt3", True),
    ("4", "4\\sqrt(2)", False),  # 41
    ("\\frac{1}{6}\\pi", "\\frac{\\pi}{6}", True),
    ("\\log_{10}2", "\\log_{10}(2)", True),
    ("\\cot x", "\\frac{\\cos x}{\\sin x}", True),
    ("\\sin(\\tan^{-1}(1))", "1", False),
    ("{25 \\choose 5}^2/2", "\\binom{25}{5}^2 \\cdot \\frac12", True),
    ("\\log 2", "\\ln 2", None),
    ("\\log_3 2", "\\ln 2", False),
    ("3", "\\log_2 8", None),
    ("2\\sin b\\cos a", "2\\cos(a)\\sin(b)", True),
    ("\\sqrt{3}-1", "-1 + sqrt(3)", True),
    ("\\frac{x^2-1}{x-1}", "x+1", True),
    ("2^n", "2^{n+1}", False),
    ("\\lceil n/2\\rceil", "\\lfloor (n+1)/2\\rfloor", None),
    ("\\sin x", "\\cos x", False),
    ("\\tan^2(y)+1", "\\sec^2(y)", None),  # 2: algebra knows
    ("1/2x", "x/2", None),
    ("\\frac{1}{2004!}", "\\frac{1}{2006!}", False),  # 14
    ("\\frac{1}{2^{99}}", "\\frac{1}{2^{98}}", False),  # 14
    ("\\frac{2^{2005}+1}{3 \\cdot 2^{2006}}", "\\frac{1}{3 \\cdot 2^{2006}}", False),  # 14
    ("1 - \\frac{1}{\\mathrm{e}}", "1 + \\frac{1}{\\mathrm{e}}", False),  # 14
    ("\\frac{2016}{2017^{2}}", "\\frac{1}{2018}", False),
]
SEVERAL: list[Row] = [
    ("1,2,3", "3,2,1", True),
    ("1,2,3", "\\{3,2,1\\}", True),
    ("1,2,3", "(1,2,3)", True),
    ("1,2,3", "1,2", False),
    ("1331 and 1728", "1728", False),  # 47
    ("\\{1,2\\}", "\\{2,1,1\\}", True),
    ("1,1,2", "1,2", False),
    ("(3,2)", "(2,3)", False),
    ("(3,2)", "3,2", True),
    ("(0;0;6),(4;0;0)", "(4,0,0), (0,0,6)", True),
    ("(1,2),(3,4)", "(1,2)(3,4)", True),
    ("(1,2),(3,4)", "(1,2),(3,4),(1,2)", True),
    ("19, 46, and 82", "19, 46, \\text{ and } 82", True),
    ("19, 46, and 82", "21, 36, and 82", False),  # 14
    ("(11,7)or(7,11)", "(7,11),\\ (11,7)", True),
    ("4", "4,\\frac{7}{2}", False),
    ("3 \\pm 2\\sqrt{2}", "3-2\\sqrt2, 3+2\\sqrt2", True),
    ("\\pm 2021", "2021", False),  # 14
    ("\\pm 2021", "{-2021, 2021}", True),
    ("\\{1\\pm\\sqrt{5},-2\\}", "\\{-2, 1-\\sqrt5, 1+\\sqrt5\\}", True),
    ("12:00", "1:00", False),  # 14
    ("7:32", "14:64", True),
    ("1, 2, \\ldots, n", "1, 3, 5, \\ldots, 2n-1", None),  # 14
    ("1:2:3:\\ldots", "1:4:9:\\ldots", None),  # 14
    ("\\{1,2\\}", "(1,2)", None),
    ("\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}", "\\left[\\begin{array}{cc}1 & 0 \\\\ 0 & 1\\end{array}\\right]", True),
    ("\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}", "\\begin{bmatrix}1 & 0 \\\\ 0 & 2\\end{bmatrix}", False),
    ("\\begin{pmatrix}1/5\\\\-18/5\\end{pmatrix}", "(\\frac15, -\\frac{18}{5})", True),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1&2\\end{pmatrix}", False),
]
INTERVALS: list[Row] = [
    ("[0,1)", "[0, 1)", True),
    ("[0,1)", "(0,1)", False),
    ("(0,1)", "(0,1.5)", False),  # 14
    ("(0, 12.5)", "0 < x < 12.5", True),  # 10
    ("x \\in [-2,7]", "-2 \\le x \\le 7", True),
    ("x >= 5", "5 \\leq x", True),
    ("x > 5", "x < 5", False),
    ("x \\neq 5", "x != 5", True),
    ("(-\\infty,-5)", "k<-5", True),
    ("(1, +\\infty)", "(1,\\infty)", True),
    ("[-1, -\\frac{1}{2}) \\cup (0, 1)", "(0,1) \\cup [-1,-\\tfrac12)", True),
    ("\\{-1\\} \\cup [0,7)", "[0,7) \\cup \\{-1\\}", True),
    ("(0,9)\\cup(9,36)", "(-9,0)\\cup(9,36)", False),
    ("(-9,0)\\cup(0,9)", "-9<x<0 or 0<x<9", True),
    ("(0,2]", "(0,1] \\cup [1,2]", True),
    ("(0,2]", "(0,1) \\cup (1,2]", False),
    ("(-\\infty,1)\\cup(1,\\infty)", "x<1 \\text{ or } x>1", True),
    ("[0,\\sqrt2)\\cup\\{3\\}", "\\{3\\}\\cup[0,\\sqrt2)", True),
    ("[0,\\sqrt2)\\cup\\{3\\}", "[0,\\sqrt2)", None),
    ("1", "-[0,1)", False),
]
RELATIONS: list[Row] = [
    ("k=1", "1", True),
    ("1", "k=1", True),
    ("k=1", "k=2", False),
    ("x=2,y=3", "y=2,x=3", False),
    ("x=2,y=3", "y=3,x=2", True),
    ("x_1=2,x_2=3", "x_1=3,x_2=2", True),
    ("x_1=2", "x_2=2", None),
    ("f(2)=5", "f(3)=5", None),
    ("x=-5, p=\\frac{14}{3}", "-5, \\frac{14}{3}", True),
    ("p=5,q=2;p=7,q=2", "(5,2),(7,2)", True),
    ("(p,q,r)=(3,2,7)", "(3,2,7)", True),
    ("f(x)=2x", "f(n)=2x", True),
    ("y = x^2+2x+1", "2x+1+x^2", True),
    ("|AB|=1", "1", True),
    ("S_{MBCN}:S=7:32", "7:32", True),
    ("\\frac{NO}{BO}=\\frac{1}{\\sqrt{6}}", "\\frac{1}{\\sqrt{6}}", True),
    ("n=2,3,4", "n=1,2,3", False),  # 14
    ("n=2,3,4", "1,2,3", False),  # 14
    ("D = (0, 1)", "D = (0, 1.5)", False),  # 14
    ("3x-y+13=0", "0", False),  # 60
    ("3*x-1*y+13=0", "3x + 4y + 14=0", False),  # 60
    ("f(x) = 0", "\\forall x>0, f(x) = 0", False),  # 64
    ("5x-7y+11z+4=0", "20x-28y+44z+16=0", True),
    ("34x+45y-20z+100=0", "-34x-45y+20z-100=0", True),  # 2
    ("y=2x", "2x-y=0", True),
    ("7 = 11a+c", "11a+c", False),
    ("a^2 + b = 0", "0", False),
    ("11", "x\\approx11", True),
    ("\\frac{\\sqrt{3}}{3}", "\\frac{\\sqrt{3}}{3} \\approx 0.577", True),
    ("0.577", "\\frac{\\sqrt{3}}{3} \\approx 0.577", True),
    ("6", "5 \\approx 6", False),
    ("55", "1+2+3+4+5+6+7+8+9+10 = 55", True),
    ("x < y", "y > x", True),
    ("x < y", "x \\leq y", False),
]
WORDS: list[Row] = [
    ("\\text{odd}", "odd", True),
    ("odd", "\\text{oddd}", False),
    ("Even", "even", True),
    ("even", "2", False),
    ("no solution", "there are none", None),
    ("no solution", "\\emptyset", None),
    ("no solution", "1,2", False),
    ("\\sqrt{3}", "no real solutions", False),
    ("\\infty", "infinitely many", None),
    ("odd $n$", "odd $n$", True),
    ("E", "\\mathrm{E}", True),
    ("E", "\\mathrm{E}*2", False),
    ("B", "(B)", True),
    ("B", "B. 12", True),
    ("(B)", "\\textbf{(B)}\\ 12", True),
    ("C", "c", True),
    ("B", "A", False),
    ("d", "\\text{E}", False),
    ("12", "\\textbf{(B)}\\ 12", True),
]
TABLES: dict[str, list[Row]] = {
    "numbers": NUMBERS,
    "units": UNITS,
    "formulas": FORMULAS,
    "several": SEVERAL,
    "intervals": INTERVALS,
    "relations": RELATIONS,
    "words": WORDS,
}


@pytest.mark.parametrize(
    ("gold", "pred", "equal"),
    [pytest.param(*row, id=f"{name}: {row[0]} | {row[1]}") for name, rows in TABLES.items() for row in rows],
)
def test_pairs(gold: str, pred: str, equal: bool | None) -> None:
    decision = compare(gold, pred)
    assert decision.equal is equal, decision


@pytest.mark.parametrize(
    ("gold", "pred", "options", "equal"),
    [
        ("1,2", "2,1", Options(order="keep"), False),
        ("1,2", "1,2", Options(order="keep"), True),
        ("(1,2)", "(2,1)", Options(order="any"), True),
        ("10\\text{ cm}", "10", Options(units="require"), False),
        ("10\\text{ cm}", "10 cm", Options(units="require"), True),
        ("50\\%", "50", Options(percent="value"), False),
        ("50\\%", "0.5", Options(percent="value"), True),
        ("50\\%", "0.5", Options(percent="sign"), False),
        ("50\\%", "50 percent", Options(percent="sign"), True),
        ("100/3", "33.3", Options(tolerance=0.01), True),
        ("100/3", "33", Options(tolerance=0.001), False),
        ("100", "101", Options(tolerance=0.01), True),
        ("3.1416", "3.14159", Options(rounding=4), True),
        ("\\pi", "3.14", Options(rounding=2), True),
        ("2.5", "2.4", Options(rounding=0), False),
        ("-0.5", "-1", Options(rounding=0), True),
        ("(1, 1/3)", "(1, 0.33)", Options(rounding=2), True),
    ],
)
def test_options(gold: str, pred: str, options: Options, equal: bool) -> None:
    assert compare(gold, pred, options).equal is equal


@pytest.mark.parametrize(
    ("gold", "pred", "rule"),
    [
        ("\\frac12", "\\tfrac12", "same text"),
        ("1/2", "0.5", "exact number"),
        ("2x", "x+x", "exact formula"),
        ("1,2", "2,1", "any order"),
        ("(1,2)", "(1,2.0)", "in order"),
        ("[0,1)", "[0,1.0)", "interval"),
        ("1.22", "1,22", "decimal comma"),
        ("50\\%", "0.5", "percent"),
        ("\\sqrt2", "1.4142135623730951", "printed float"),
        ("7:32", "14:64", "ratio"),
        ("x+y=1", "2x+2y=2", "relation"),
        ("B", "(B)", "choice"),
        ("even", "odd", "words"),
        ("5 cm", "5 m", "units differ"),
        ("x=5", "y=5", "names differ"),
    ],
)
def test_the_rule_that_decided_is_named(gold: str, pred: str, rule: str) -> None:
    assert compare(gold, pred).rule == rule


@pytest.mark.parametrize(
    "hostile",
    [
        "9^{9^{9^{9}}}",
        "(10^{10})!",
        "1e9999",
        "10^{100000}",
        "((" * 3000,
        "(" * 300 + "1" + ")" * 300,
        "\\frac{" * 500,
        "\\text{" * 600,
        "\\sqrt{" * 100 + "2" + "}" * 100,
        "9" * 100_000,
        "x^" * 1000,
        "(a+b+c+d+e+f+g+h)^{60}",
        "1," * 1500,
        "-" * 3000 + "1",
        "{" * 50_000 + "}" * 50_000,
        "\\dfrac{5^{\\left(5^{\\left(5^{\\left(5^5\\right)}\\right)} - 4\\right)} - 5}{16}",  # 65
        "{@Neillier 1276915 4951077 ник增高人权 国 {1,1-3-10鼓励不停);5个_GENERAL2全校。 _HEADERS1 Orchestra}",  # 65
    ],
)
def test_hostile_text_is_no_equal_and_takes_no_time(hostile: str) -> None:
    assert compare("5", hostile).equal is not True
    assert compare(hostile, "5").equal is not True
    assert compare(hostile, hostile).equal is not False
