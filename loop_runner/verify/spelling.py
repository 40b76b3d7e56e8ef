"""One spelling for a value that can be written in several ways: a number, a quantity, a date, a few words.

Owns which differences in spelling never change a value. Where that is uncertain (``3.10`` and ``3.1`` may
be versions, ``1.000`` may be a thousand) two spellings stay different. Pure functions; relies on nothing.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september", "october"),
    *("november", "december"),
)
_MONTH = r"(?P<month>[A-Za-z]{3,9})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?"
_DATES = tuple(
    re.compile(rf"(?i)(?<![\w.,/-]){_WEEKDAY}(?:{form})(?![\w/-]|[.,]\d)")
    for form in (
        rf"(?:the\s+)?{_DAY}\s+(?:of\s+)?{_MONTH},?\s+{_YEAR}",
        rf"{_MONTH}\s+{_DAY},?\s+{_YEAR}",
        rf"{_YEAR}[-/](?P<number>\d{{1,2}})[-/]{_DAY}",
        rf"{_DAY}\.\s?(?P<number>\d{{1,2}})\.\s?{_YEAR}",
        # With slashes the order of day and month is known only when the day is too large for a month.
        rf"(?P<day>1[3-9]|2\d|3[01])/(?P<number>\d{{1,2}})/{_YEAR}",
        rf"(?P<number>\d{{1,2}})/(?P<day>1[3-9]|2\d|3[01])/{_YEAR}",
        rf"(?P<day>(?P<number>\d{{1,2}}))/(?:0?(?P=day)|(?P=day))/{_YEAR}",
    )
)
_SPACES = " '\u2019_\u00a0\u2009\u202f"
_NUMBER = re.compile(
    rf"(?P<sign>-?)(?P<whole>\d{{1,3}}(?P<mark>[,{_SPACES}])\d{{3}}(?:(?P=mark)\d{{3}})*|\d*)"
    r"(?:\.(?P<part>\d+))?(?P<exponent>[eE][-+]?\d{1,3})?"
)
_GROUPED = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w,]|\.\d*[.,]\d)")
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
# (base, factor, names). Symbols are exact: "mW" is not "MW". Words may have any letter case and a plural "s".
_UNITS = (
    ("%", "1", "%", "percent", "per cent"),
    ("B", "1", "B", "byte"),
    ("B", "1e3", "kB", "kilobyte"),
    ("B", "1e6", "MB", "megabyte"),
    ("B", "1e9", "GB", "gigabyte"),
    ("B", "1e12", "TB", "terabyte"),
    ("B", "1024", "KiB", "kibibyte"),
    ("B", "1048576", "MiB", "mebibyte"),
    ("B", "1073741824", "GiB", "gibibyte"),
    ("m", "0.001", "mm", "millimetre", "millimeter"),
    ("m", "0.01", "cm", "centimetre", "centimeter"),
    ("m", "1", "m", "metre", "meter"),
    ("m", "1000", "km", "kilometre", "kilometer"),
    ("g", "0.001", "mg", "milligram"),
    ("g", "1", "g", "gram"),
    ("g", "1000", "kg", "kilogram"),
    ("l", "0.001", "ml", "mL", "millilitre", "milliliter"),
    ("l", "1", "l", "L", "litre", "liter"),
    ("s", "1e-9", "ns", "nanosecond"),
    ("s", "1e-6", "\u00b5s", "\u03bcs", "us", "microsecond"),
    ("s", "0.001", "ms", "millisecond"),
    ("s", "1", "s", "sec", "secs", "second"),
    ("s", "60", "min", "mins", "minute"),
    ("s", "3600", "h", "hr", "hrs", "hour"),
    ("day", "1", "day"),
    ("day", "7", "week"),
    ("month", "1", "month"),
    ("year", "1", "year"),
    ("Hz", "1", "Hz", "hertz"),
    ("Hz", "1e3", "kHz", "kilohertz"),
    ("Hz", "1e6", "MHz", "megahertz"),
    ("Hz", "1e9", "GHz", "gigahertz"),
    ("W", "0.001", "mW", "milliwatt"),
    ("W", "1", "W", "watt"),
    ("W", "1e3", "kW", "kilowatt"),
    ("W", "1e6", "MW", "megawatt"),
    ("\u00b0C", "1", "\u00b0C", "degree celsius", "degrees celsius"),
    ("EUR", "1", "\u20ac", "EUR", "euro"),
    ("GBP", "1", "\u00a3", "GBP"),
    ("USD", "1", "US$", "USD", "us dollar"),
    ("$", "1", "$", "dollar"),
)
_UNIT_OF = {name: (base, factor) for base, factor, *names in _UNITS for name in names}
_SHORTEST_WORD = 4  # letters of a unit's name that is not a symbol
_BEFORE = re.compile(r"(US\$|USD|EUR|GBP|[$\u20ac\u00a3])\s?(?=[\d.])")
_AFTER = re.compile(r"(?<=[\d])\s?-?([A-Za-z\u00b5\u03bc\u00b0%$\u20ac\u00a3][A-Za-z $]*)$")
# Parts that a reader would leave out: a reference to a place, or "default".
_REMARK = re.compile(
    r"(?i)\s*[(\[](?:(?:this\s+is\s+|it\s+is\s+)?(?:the\s+|by\s+|its\s+)?default(?:\s+value)?"
    r"|(?:see\s+|from\s+|in\s+)?(?:lines?|pages?|p\.|section|\u00a7|chapter|clause)\s*[\d.,\u2013-]+"
    r"|[\w./-]+:\d+)[)\]]$"
)
_EMPHASIS = (
    re.compile(r"(?<![\w*])\*\*(\S(?:[^\n]*?\S)?)\*\*(?![\w*])"),
    re.compile(r"(?<![\w*])\*(\w(?:[^*\n]*\w)?)\*(?![\w*])"),
    re.compile(r"(?<!\w)__(\w[^_\n]* [^_\n]*)__(?!\w)"),
    re.compile(r"`([^`\n]+)`"),
)
_QUOTES = {'"': '"', "'": "'"}
_FOLDED = frozenset({"font", "initial", "medial", "final", "isolated", "wide", "narrow", "small", "compat"})
_ALIKE = {
    **dict.fromkeys("\u2018\u2019\u201a\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u00a0\u2009\u202f\u2007", " "),
    "\ufeff": "",
}
_SUPERSCRIPTS = str.maketrans(
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207b", "0123456789-"
)
_SUPERSCRIPT = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b]+")
_FRACTION = re.compile("(\\d?)([\u00bc-\u00be\u2150-\u215e])")
_ANY_CASE = frozenset({"no", "is", "nan", "or", "it", "to", "of", "in", "on", "at", "by"})
_SHORTEST = 3  # letters of a word that is the same in any letter case: "Co" and "CO" are two things


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit; "" for no unit. ``digits``: the number of digits after the point."""

    value: Decimal
    unit: str
    digits: str


def normalise(text: str) -> str:
    """The one spelling of a value. Equal spellings mean the same; different ones may."""
    plain = _plain(text)
    if (amount := quantity(plain)) is not None:
        return _written(amount)
    return _words(_with_dates(plain))


def quantity(text: str) -> Quantity | None:
    """The number, with its unit, that is all of ``text``; None when it is something else or uncertain."""
    plain = _plain(text)
    if plain.casefold() in _NUMBER_WORDS:
        return Quantity(Decimal(_NUMBER_WORDS.index(plain.casefold())), "", "")
    amount, unit = _split_unit(plain)
    match = _NUMBER.fullmatch(amount)
    if unit is None or match is None or not (match["whole"] or match["part"]):
        return None
    whole = re.sub(rf"[,{_SPACES}]", "", match["whole"])
    if (whole.startswith("0") and len(whole) > 1) or _is_open(match):
        return None
    try:
        value = Decimal(f"{match['sign']}{whole or '0'}.{match['part'] or '0'}{match['exponent'] or ''}")
    except InvalidOperation:
        return None
    base, factor = unit
    digits = (match["part"] or "") if not match["exponent"] else ""
    return Quantity(value * Decimal(factor), base, "" if not digits.strip("0") else digits)


def day(text: str) -> str:
    """The date that is all of ``text``, as 2021-03-05; "" when it is something else."""
    spelled = _with_dates(_plain(text))
    return spelled if re.fullmatch(r"\d{4}-\d{2}-\d{2}", spelled) else ""


def _is_open(match: re.Match[str]) -> bool:
    """``1.000`` is one or a thousand, depending on the country."""
    part, whole = match["part"] or "", match["whole"]
    return (
        not match["exponent"]
        and match["mark"] is None
        and len(part) == 3
        and whole not in {"", "0"}
        and (len(whole) <= 3)
    )


def _split_unit(text: str) -> tuple[str, tuple[str, str] | None]:
    """(the number, (base unit, factor)); None instead of the pair for a word that is not a unit."""
    sign = "-" if re.match(r"-[$\u20ac\u00a3U]", text) else ""
    if before := _BEFORE.match(text, len(sign)):
        return sign + text[before.end() :], _UNIT_OF[before[1]]
    after = _AFTER.search(text)
    if after is None:
        return text, ("", "1")
    return text[: after.start()], _unit(after[1].strip())


def _unit(name: str) -> tuple[str, str] | None:
    word = name.lower()
    if name in _UNIT_OF or len(word) < _SHORTEST_WORD - 1:
        return _UNIT_OF.get(name)
    return _UNIT_OF.get(word) or _UNIT_OF.get(word.removesuffix("s"))


def _written(amount: Quantity) -> str:
    """A bare number keeps its digits after the point: 3.10 is another version than 3.1."""
    value = abs(amount.value) if not amount.value else amount.value
    bare = f"{value:f}" if amount.digits and not amount.unit else f"{value.normalize():f}"
    return f"{bare} {amount.unit}".rstrip()


def _plain(text: str) -> str:
    """``text`` without marks around it, with one sign for signs that look alike."""
    shown = _one_sign(text)
    for pattern in _EMPHASIS:
        shown = pattern.sub(r"\1", shown)
    while (bare := _REMARK.sub("", _unmarked(shown))) != shown:
        shown = bare
    return shown


def _one_sign(text: str) -> str:
    text = _SUPERSCRIPT.sub(
        lambda match: "^" + match[0].translate(_SUPERSCRIPTS), unicodedata.normalize("NFC", text)
    )
    text = _FRACTION.sub(_fraction, text)
    return " ".join("".join(map(_char, text)).split())


def _fraction(match: re.Match[str]) -> str:
    halves = unicodedata.normalize("NFKC", match[2]).replace("\u2044", "/")
    return f"{match[1]} {halves}" if match[1] else halves


def _char(char: str) -> str:
    if char.isascii():
        return char
    if char in _ALIKE:
        return _ALIKE[char]
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    kind = unicodedata.decomposition(char).partition(">")[0].removeprefix("<")
    return unicodedata.normalize("NFKC", char) if kind in _FOLDED else char


def _unmarked(text: str) -> str:
    """Without quote marks around all of it, a final punctuation mark, a call's ``()``."""
    text = text.strip()
    while len(text) > 1:
        inside = text[1:-1]
        if _QUOTES.get(text[0]) == text[-1] and text[0] not in inside:
            text = inside.strip()
        elif text[-1] in ".,;:" and text[-2] not in ".,;:":
            text = text[:-1].rstrip()
        elif text[-1] == "!" and text[-2].isalpha() and " " in text:
            text = text[:-1]
        elif re.fullmatch(r"[\w.]*\w\(\)", text):
            text = text[:-2]
        else:
            break
    return text


def _with_dates(text: str) -> str:
    for pattern in _DATES:
        text = pattern.sub(_iso, text)
    return text


def _iso(match: re.Match[str]) -> str:
    parts = match.groupdict()
    month = int(parts["number"]) if parts.get("number") else _month(parts.get("month") or "")
    with suppress(ValueError):
        return date(int(parts["year"]), month, int(parts["day"])).isoformat()
    return match[0]


def _month(name: str) -> int:
    """1 to 12; 0 for a word that is not a month or the beginning of one."""
    short = name.casefold()
    near = [
        number for number, month in enumerate(_MONTHS, 1) if month == short or short in {month[:3], month[:4]}
    ]
    return near[0] if len(near) == 1 else 0


def _words(text: str) -> str:
    text = re.sub(r"(\d) %", r"\1%", _GROUPED.sub(lambda match: match[0].replace(",", ""), text))
    text = re.sub(r"^(?:the|The|THE|an?|An)\s+(?=[^\W\d_]{2})", "", text)
    folded = [_any_case(word, is_first=number == 0) for number, word in enumerate(text.split(" "))]
    return " ".join(folded)


def _any_case(word: str, *, is_first: bool) -> str:
    """A word of prose in lower case; names in code, options and symbols of two letters stay as they are."""
    bare = word.strip(",;:.!?'\"()")
    pieces = re.split(r"['-]", bare)
    if not bare or not all(piece.isalpha() for piece in pieces):
        return word
    if word.casefold().strip(",;:.!?'\"()") in _ANY_CASE or (is_first and len(bare) > 1 and bare.istitle()):
        return word.casefold()
    if len(bare) >= _SHORTEST and all(_is_prose(piece) for piece in pieces):
        return word.casefold()
    return word


def _is_prose(piece: str) -> bool:
    return piece.islower() or piece.isupper() or (piece[0].isupper() and piece[1:].islower())
