"""Where the `tokenizers` package classes a code point otherwise than utf8proc: writes sdk/runtime/tokenizer/unicode_tables.h.

    python unicode_tables.py > ../../sdk/runtime/tokenizer/unicode_tables.h
    python unicode_tables.py scripts > ../../sdk/runtime/tokenizer/unicode_scripts.h

The package takes its character classes from libraries with tables of different Unicode versions (punctuation and
marks older than utf8proc's, digits, letters and words newer).  Every code point is put through the public
interface of the package and compared with the category that libutf8proc gives; the differences are the tables.
Scripts, which libutf8proc does not know, are found by where the package's UnicodeScripts splits.
"""
import ctypes
import importlib.metadata
import sys

from tokenizers import Regex
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

lib = ctypes.CDLL("libutf8proc.so.2")
lib.utf8proc_category.argtypes = lib.utf8proc_tolower.argtypes = [ctypes.c_int32]
lib.utf8proc_version.restype = lib.utf8proc_unicode_version.restype = ctypes.c_char_p
lib.utf8proc_decompose_char.argtypes = [ctypes.c_int32, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
lib.utf8proc_get_property.restype = ctypes.POINTER(ctypes.c_uint16)
lib.utf8proc_get_property.argtypes = [ctypes.c_int32]
NAMES = "Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co".split()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
CATEGORY = {c: NAMES[lib.utf8proc_category(c)] for c in POINTS}


def words(splitter, n):
    return {c for c in POINTS if len(splitter.pre_tokenize_str("a" + chr(c) + "b")) == n}


def vanish(normalizer, among=POINTS):
    return {c for c in among if normalizer.normalize_str("a" + chr(c) + "b") == "ab"}


def matched(expression):
    splitter = P.Split(Regex(expression), "removed")
    return {c for c in POINTS if not splitter.pre_tokenize_str(chr(c))}


def of(*prefixes):
    return {c for c in POINTS if CATEGORY[c].startswith(prefixes)}


def decomposed(c, compat):
    buffer = (ctypes.c_int32 * 32)()
    n = lib.utf8proc_decompose_char(c, buffer, 32, 1 << 1 | 1 << 4 | (1 << 2 if compat else 0), None)
    return "".join(map(chr, buffer[:n]))


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def table(name, comment, reference, ours):
    rows = sorted([(a, b, 1) for a, b in ranges(reference - ours)] + [(a, b, 0) for a, b in ranges(ours - reference)])
    print(f"\n/* {comment} */\nstatic const class_range {name}[] = {{")
    for a, b, add in rows:
        print(f"    {{0x{a:X}, 0x{b:X}, {add}}},")
    print("    {UINT32_MAX, 0, 0}};")


def scripts():
    """Ranges of code points between which UnicodeScripts never splits: {first, last, class}."""
    splitter = P.UnicodeScripts()
    known = [c for c in POINTS if splitter.pre_tokenize_str(chr(c))]  # the others belong to any script
    starts = {begin for _, (begin, _) in splitter.pre_tokenize_str("".join(map(chr, known)))}
    found, rows = [], []
    for i, c in enumerate(known):
        if i in starts:
            of = next((k for k, r in enumerate(found) if len(splitter.pre_tokenize_str(chr(r) + chr(c))) == 1), None)
            if of is None:
                of = len(found)
                found.append(c)
            kind = of + 1
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == kind:
            rows[-1][1] = c
        else:
            rows.append([c, c, kind])
    print(f"""/* unicode_scripts.h - scripts as the reference splits by them: {{first, last, script}}; what is in no range goes with any.
 *
 * Made by `tests/interop/unicode_tables.py scripts` from tokenizers {importlib.metadata.version('tokenizers')}; included by unicode.c only.  The numbers are
 * of this table alone, in the order of the first code points: {len(found)} scripts. */""")
    print("\nstatic const script_range script_ranges[] = {")
    for k in range(0, len(rows), 4):
        print("    " + " ".join(f"{{0x{a:X}, 0x{b:X}, {kind}}}," for a, b, kind in rows[k : k + 4]))
    print("};")


def main():
    alphabetic = {c for a, b in ((0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)) for c in range(a, b + 1)}
    bert = dict(handle_chinese_chars=False, lowercase=False)
    nfd, nfkd = N.NFD(), N.NFKD()
    plain = [c for c in POINTS if nfd.normalize_str(chr(c)) == chr(c)]
    print(f"""/* unicode_tables.h - where the reference's character classes differ from utf8proc's: {{first, last, in the class}}.
 *
 * Made by tests/interop/unicode_tables.py from tokenizers {importlib.metadata.version('tokenizers')} and utf8proc {lib.utf8proc_version().decode()} (Unicode {lib.utf8proc_unicode_version().decode()});
 * included by unicode.c only.  Each table ends with a range that no code point reaches. */""")
    table("punctuation_ranges", "punctuation beyond ASCII", {c for c in words(P.Punctuation(), 3) if c > 127}, {c for c in of("P") if c > 127})
    table("digit_ranges", "N* of the Digits pre-tokenizer", words(P.Digits(individual_digits=True), 3), of("N"))
    table("mark_ranges", "M* of StripAccents", vanish(N.StripAccents()), of("M"))
    table("nonspacing_ranges", "Mn of BertNormalizer", vanish(N.BertNormalizer(clean_text=False, strip_accents=True, **bert), plain),
          {c for c in plain if CATEGORY[c] == "Mn"})
    table("other_ranges", "Cc, Cf, Co of BertNormalizer, less tab and line ends", vanish(N.BertNormalizer(clean_text=True, strip_accents=False, **bert)) - {0xFFFD},
          of("Cc", "Cf", "Co") - {9, 10, 13})
    table("word_ranges", "words: the Whitespace pre-tokenizer and single_word", words(P.Whitespace(), 1),
          of("L", "M", "Nd", "Nl", "Pc") | alphabetic | {0x200C, 0x200D})
    table("letter_ranges", "L* of expressions", matched(r"\p{L}"), of("L"))
    table("number_ranges", "N* of expressions", matched(r"\p{N}"), of("N"))
    table("kept_ranges", "decompositions that the reference lacks", set(),
          {c for c in POINTS if decomposed(c, True) != chr(c) and nfkd.normalize_str(chr(c)) == chr(c) and not 0xAC00 <= c <= 0xD7A3})
    # A mark goes behind U+0334, of class 1, exactly when its own class is larger.
    movable = {c for c in plain if lib.utf8proc_get_property(c)[1] > 1}
    table("starter_ranges", "marks whose combining class the reference does not know", set(),
          {c for c in movable if nfd.normalize_str("a" + chr(c) + "\u0334")[1] == chr(c)})
    lower = N.Lowercase()
    print("\n/* lower case, {upper, lower} */\nstatic const uint32_t lower_pairs[][2] = {")
    for c in POINTS:
        small = lower.normalize_str(chr(c))
        if len(small) == 1 and ord(small) != lib.utf8proc_tolower(c):
            print(f"    {{0x{c:X}, 0x{ord(small):X}}},")
    print("};")


scripts() if sys.argv[1:] == ["scripts"] else main()
