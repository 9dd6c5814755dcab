"""C++ and JavaScript: the problems of HumanEval in those languages, in bubblewrap, with their tests appended.

The data have no solutions, so some are written here, each the body of its problem's function. A stub for every problem
is a body that gives back nothing at all: where that does not fail, a problem's tests are worth nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest

from factory.types import Attempt, Check, Origin, Outcome, Problem, Span, Verdict
from factory.verifiers.base import verdicts
from factory.verifiers.code.verifier import CodeVerifier
from factory.verifiers.jail import Jail
from sandboxes.base import Language
from tests.sandboxed import ROOT

CODE = ROOT.parent / "shared" / "data" / "problems" / "code"
FILES = {"javascript": "humaneval_js.jsonl", "cpp": "humaneval_cpp.jsonl"}
THREADS = 4
NOTHING = {"javascript": "return null;", "cpp": "return {};"}
"""The body of a stub. That of the verifier itself does not even compile behind a function that is begun."""
OTHERWISE = {"HumanEval_103_rounded_avg": "return 0L;"}
"""In C++, where nothing at all could be of several types."""
ENDS = {"javascript": "\n}", "cpp": "\n"}
"""After a body: the tests of C++ close the function themselves."""

BROKEN = {"javascript": {"HumanEval_51_remove_vowels"}, "cpp": {"HumanEval_137_compare_one"}}
"""Problems that no program solves: the tests of the first break lines inside of texts, the prompt of the second takes
`std::nullopt` for a type."""
NEVER_RUN = ("SyntaxError", "build_failed")
"""What is said of those."""

JAVASCRIPT = {
    "HumanEval_103_rounded_avg": """
        if (m < n) return -1;
        const mean = Math.floor((n + m) / 2), odd = (n + m) % 2 && mean % 2;
        return '0b' + (mean + (odd ? 1 : 0)).toString(2);""",
    "HumanEval_0_has_close_elements": """
        const s = [...numbers].sort((a, b) => a - b);
        return s.some((x, i) => i > 0 && x - s[i - 1] < threshold);""",
    "HumanEval_1_separate_paren_groups": """
        const out = [];
        let depth = 0, group = '';
        for (const c of paren_string) {
          if (c === ' ') continue;
          group += c;
          depth += c === '(' ? 1 : -1;
          if (depth === 0) { out.push(group); group = ''; }
        }
        return out;""",
    "HumanEval_5_intersperse": "return numbers.flatMap((n, i) => i ? [delimeter, n] : [n]);",
    "HumanEval_8_sum_product": "return [numbers.reduce((a, b) => a + b, 0), numbers.reduce((a, b) => a * b, 1)];",
    "HumanEval_9_rolling_max": "let top = -Infinity; return numbers.map(n => top = Math.max(top, n));",
    "HumanEval_14_all_prefixes": "return [...string].map((_, i) => string.slice(0, i + 1));",
    "HumanEval_16_count_distinct_characters": "return new Set(string.toLowerCase()).size;",
    "HumanEval_17_parse_music": """
        const beats = { 'o': 4, 'o|': 2, '.|': 1 };
        return music_string.split(' ').filter(note => note).map(note => beats[note]);""",
    "HumanEval_23_strlen": "return string.length;",
    "HumanEval_25_factorize": """
        const out = [];
        for (let p = 2; n > 1; ) if (n % p === 0) { out.push(p); n /= p; } else p++;
        return out;""",
    "HumanEval_27_flip_case": """
        return [...string].map(c => c === c.toLowerCase() ? c.toUpperCase() : c.toLowerCase()).join('');""",
    "HumanEval_28_concatenate": "return strings.join('');",
    "HumanEval_34_unique": "return [...new Set(l)].sort((a, b) => a - b);",
    "HumanEval_35_max_element": "return Math.max(...l);",
    "HumanEval_47_median": """
        const s = [...l].sort((a, b) => a - b), half = s.length >> 1;
        return s.length % 2 ? s[half] : (s[half - 1] + s[half]) / 2;""",
    "HumanEval_49_modp": "let power = 1; while (n-- > 0) power = power * 2 % p; return power;",
    "HumanEval_55_fib": "let a = 0, b = 1; while (n-- > 0) [a, b] = [b, a + b]; return a;",
    "HumanEval_60_sum_to_n": "return n * (n + 1) / 2;",
    "HumanEval_61_correct_bracketing": """
        let depth = 0;
        for (const c of brackets) if ((depth += c === '(' ? 1 : -1) < 0) return false;
        return depth === 0;""",
    "HumanEval_63_fibfib": "let [a, b, c] = [0, 0, 1]; while (n-- > 0) [a, b, c] = [b, c, a + b + c]; return a;",
    "HumanEval_71_triangle_area": """
        if (a + b <= c || a + c <= b || b + c <= a) return -1;
        const s = (a + b + c) / 2;
        return Math.round(100 * Math.sqrt(s * (s - a) * (s - b) * (s - c))) / 100;""",
    "HumanEval_89_encrypt": """
        return s.replace(/[a-z]/g, c => String.fromCharCode((c.charCodeAt(0) - 97 + 4) % 26 + 97));""",
    "HumanEval_97_multiply": "return Math.abs(a % 10) * Math.abs(b % 10);",
    "HumanEval_106_f": """
        const out = [];
        for (let i = 1, sum = 0, product = 1; i <= n; i++) {
          sum += i; product *= i;
          out.push(i % 2 ? sum : product);
        }
        return out;""",
    "HumanEval_111_histogram": """
        const counts = {};
        for (const c of test.split(' ')) if (c) counts[c] = (counts[c] || 0) + 1;
        const top = Math.max(...Object.values(counts));
        return Object.fromEntries(Object.entries(counts).filter(([, n]) => n === top));""",
    "HumanEval_128_prod_signs": """
        if (!arr.length) return undefined;
        return arr.reduce((s, n) => s * Math.sign(n), 1) * arr.reduce((s, n) => s + Math.abs(n), 0);""",
    "HumanEval_152_compare": "return game.map((n, i) => Math.abs(n - guess[i]));",
    "HumanEval_157_right_angle_triangle": """
        const [x, y, z] = [a, b, c].sort((a, b) => a - b);
        return x * x + y * y === z * z;""",
    "HumanEval_163_generate_integers": """
        return [2, 4, 6, 8].filter(n => Math.min(a, b) <= n && n <= Math.max(a, b));""",
}
CPP = {
    "HumanEval_103_rounded_avg": """
        if (m < n) return -1L;
        std::string bits;
        for (long mean = std::nearbyint((n + m) / 2.0); mean > 0; mean /= 2) bits = char('0' + mean % 2) + bits;
        return "0b" + bits;""",
    "HumanEval_0_has_close_elements": """
        std::sort(numbers.begin(), numbers.end());
        for (size_t i = 1; i < numbers.size(); i++) if (numbers[i] - numbers[i - 1] < threshold) return true;
        return false;""",
    "HumanEval_1_separate_paren_groups": """
        std::vector<std::string> out;
        std::string group;
        int depth = 0;
        for (char c : paren_string) {
            if (c == ' ') continue;
            group += c;
            depth += c == '(' ? 1 : -1;
            if (depth == 0) { out.push_back(group); group.clear(); }
        }
        return out;""",
    "HumanEval_5_intersperse": """
        std::vector<long> out;
        for (long n : numbers) { if (!out.empty()) out.push_back(delimeter); out.push_back(n); }
        return out;""",
    "HumanEval_8_sum_product": """
        long sum = 0, product = 1;
        for (long n : numbers) { sum += n; product *= n; }
        return {sum, product};""",
    "HumanEval_9_rolling_max": """
        for (size_t i = 1; i < numbers.size(); i++) numbers[i] = std::max(numbers[i], numbers[i - 1]);
        return numbers;""",
    "HumanEval_14_all_prefixes": """
        std::vector<std::string> out;
        for (size_t i = 1; i <= string.size(); i++) out.push_back(string.substr(0, i));
        return out;""",
    "HumanEval_16_count_distinct_characters": """
        std::set<int> seen;
        for (unsigned char c : string) seen.insert(std::tolower(c));
        return seen.size();""",
    "HumanEval_17_parse_music": """
        std::map<std::string, long> beats = {{"o", 4}, {"o|", 2}, {".|", 1}};
        std::istringstream words(music_string);
        std::vector<long> out;
        for (std::string note; words >> note; ) out.push_back(beats[note]);
        return out;""",
    "HumanEval_23_strlen": "return string.size();",
    "HumanEval_25_factorize": """
        std::vector<long> out;
        for (long p = 2; n > 1; ) if (n % p == 0) { out.push_back(p); n /= p; } else p++;
        return out;""",
    "HumanEval_27_flip_case": """
        for (char &c : string) c = std::islower(c) ? std::toupper(c) : std::tolower(c);
        return string;""",
    "HumanEval_28_concatenate": """
        std::string out;
        for (auto &s : strings) out += s;
        return out;""",
    "HumanEval_34_unique": "std::set<long> seen(l.begin(), l.end()); return {seen.begin(), seen.end()};",
    "HumanEval_35_max_element": "return *std::max_element(l.begin(), l.end());",
    "HumanEval_47_median": """
        std::sort(l.begin(), l.end());
        size_t half = l.size() / 2;
        return l.size() % 2 ? l[half] : (l[half - 1] + l[half]) / 2.0f;""",
    "HumanEval_49_modp": "long power = 1; while (n-- > 0) power = power * 2 % p; return power;",
    "HumanEval_51_remove_vowels": """
        std::erase_if(text, [](char c) { return std::strchr("aeiouAEIOU", c); });
        return text;""",
    "HumanEval_55_fib": """
        long a = 0, b = 1;
        while (n-- > 0) { long next = a + b; a = b; b = next; }
        return a;""",
    "HumanEval_60_sum_to_n": "return n * (n + 1) / 2;",
    "HumanEval_61_correct_bracketing": """
        int depth = 0;
        for (char c : brackets) if ((depth += c == '(' ? 1 : -1) < 0) return false;
        return depth == 0;""",
    "HumanEval_63_fibfib": """
        long a = 0, b = 0, c = 1;
        while (n-- > 0) { long next = a + b + c; a = b; b = c; c = next; }
        return a;""",
    "HumanEval_71_triangle_area": """
        if (a + b <= c || a + c <= b || b + c <= a) return -1;
        double s = (a + b + c) / 2.0;
        return std::round(100 * std::sqrt(s * (s - a) * (s - b) * (s - c))) / 100;""",
    "HumanEval_89_encrypt": """
        for (char &c : s) if (std::islower(c)) c = (c - 'a' + 4) % 26 + 'a';
        return s;""",
    "HumanEval_97_multiply": "return std::abs(a % 10) * std::abs(b % 10);",
    "HumanEval_106_f": """
        std::vector<long> out;
        for (long i = 1, sum = 0, product = 1; i <= n; i++) {
            sum += i; product *= i;
            out.push_back(i % 2 ? sum : product);
        }
        return out;""",
    "HumanEval_111_histogram": """
        std::map<std::string, long> counts;
        std::istringstream words(test);
        long top = 0;
        for (std::string word; words >> word; ) top = std::max(top, ++counts[word]);
        std::erase_if(counts, [top](auto &one) { return one.second < top; });
        return counts;""",
    "HumanEval_128_prod_signs": """
        if (arr.empty()) return std::nullopt;
        long sign = 1, sum = 0;
        for (long n : arr) { sign *= (n > 0) - (n < 0); sum += std::abs(n); }
        return sign * sum;""",
    "HumanEval_152_compare": """
        for (size_t i = 0; i < game.size(); i++) game[i] = std::abs(game[i] - guess[i]);
        return game;""",
    "HumanEval_157_right_angle_triangle": """
        std::array<long, 3> s = {a, b, c};
        std::sort(s.begin(), s.end());
        return s[0] * s[0] + s[1] * s[1] == s[2] * s[2];""",
    "HumanEval_163_generate_integers": """
        std::vector<long> out;
        for (long n : {2, 4, 6, 8}) if (std::min(a, b) <= n && n <= std::max(a, b)) out.push_back(n);
        return out;""",
}
SOLUTIONS = {"javascript": JAVASCRIPT, "cpp": CPP}


@cache
def problems(language: str) -> dict[str, dict[str, Any]]:
    """The rows of a language, by name; skips where they are not there."""
    file = CODE / FILES[language]
    if not file.is_file():
        pytest.skip("the real data are not beside this checkout")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["name"]: row for row in rows}


Judge = Callable[[str, str, str], Verdict]
"""Of a language, the name of a problem and the body of its function."""


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    jails: dict[Language, Jail] = {}
    verifier = CodeVerifier(lambda language: jails.setdefault(language, Jail(language=language)))

    def one(language: str, name: str, body: str) -> Verdict:
        row = problems(language)[name]
        params = {"kind": "appended", "language": language, "weak": True, "prefix": row["prompt"], "tests": row["test"]}
        problem = Problem("id", (), None, (Check("code", params),), "test")
        attempt = Attempt((Span(body + ENDS[language], Origin.SAMPLED),))
        (verdict,) = verdicts({"code": verifier}, problem, attempt)
        return verdict

    yield one
    for jail in jails.values():
        jail.close()


def judged(judge: Judge, language: str, bodies: dict[str, str]) -> dict[str, Verdict]:
    """By problem; skips, with the reason, where the language has no sandbox here."""
    names = sorted(bodies)
    first = judge(language, names[0], bodies[names[0]])
    if first.outcome is Outcome.UNKNOWN and "no sandbox" in first.evidence:
        pytest.skip(first.evidence)
    with ThreadPoolExecutor(THREADS) as threads:
        found = threads.map(lambda name: judge(language, name, bodies[name]), names)
        return dict(zip(names, found, strict=True))


def not_as(outcome: Outcome, found: dict[str, Verdict]) -> dict[str, str]:
    return {name: one.evidence for name, one in found.items() if one.outcome is not outcome}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", FILES)
def test_solutions_pass(judge: Judge, language: str) -> None:
    solutions = SOLUTIONS[language]
    assert len(solutions) > 20
    assert not not_as(Outcome.PASS, judged(judge, language, solutions))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("language", ["javascript", pytest.param("cpp", marks=pytest.mark.soak)])
def test_no_stub_passes(judge: Judge, language: str) -> None:
    """In C++ a compilation a problem, which takes minutes."""
    names = problems(language)
    assert len(names) > 100
    bodies = dict.fromkeys(names, NOTHING[language]) | (OTHERWISE if language == "cpp" else {})
    found = judged(judge, language, bodies)
    assert not not_as(Outcome.FAIL, found)
    assert {name for name, one in found.items() if any(how in one.evidence for how in NEVER_RUN)} == BROKEN[language]
