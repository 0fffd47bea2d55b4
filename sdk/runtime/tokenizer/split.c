/* split.c - see split.h.
 *
 * Sequences are flattened, and the compound pre-tokenizers are taken apart into the same few steps:
 * ByteLevel is a leading space, GPT-2's expression and the byte map; Metaspace is a replacement and
 * a split.  A byte map at the very end may be left to the model, which reads bytes.
 */
#include "tokenizer/split.h"
#include "json/json.h"
#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"
#include <stdlib.h>
#include <string.h>

static const char gpt2_expression[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef enum behaviour {
    ISOLATED,
    REMOVED,
    MERGED_WITH_PREVIOUS,
    MERGED_WITH_NEXT,
    CONTIGUOUS
} behaviour;

typedef enum step_kind {
    STEP_PATTERN,
    STEP_CLASS,
    STEP_WORDS, /* runs of word characters, and runs of neither these nor spaces */
    STEP_CHAR,
    STEP_LENGTH,  /* so many characters each */
    STEP_SCRIPTS, /* runs of one script; what belongs to any stays with the run before it */
    STEP_SPACE,
    STEP_META,
    STEP_BYTES
} step_kind;
typedef enum prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } prepend;

typedef struct step {
    step_kind kind;
    behaviour how;
    int invert;
    pattern *pattern;
    char_class class;
    uint32_t c;          /* STEP_CHAR's delimiter */
    int64_t length;      /* STEP_LENGTH's characters */
    char replacement[5]; /* STEP_META's stand-in for a space */
    prepend prepend;
} step;

enum { MAX_STEPS = 64 };

struct splitter {
    step steps[MAX_STEPS];
    int n, leaves_bytes;
    pieces other; /* what the next step writes */
    int64_t work;
};

void splitter_free(splitter *s)
{
    if (!s) return;
    for (int i = 0; i < s->n; i++) pattern_free(s->steps[i].pattern);
    pieces_free(&s->other);
    free(s);
}

int splitter_leave_bytes(splitter *s)
{
    if (s->n && s->steps[s->n - 1].kind == STEP_BYTES) {
        s->leaves_bytes = 1;
        s->n--;
    }
    return s->leaves_bytes;
}

int64_t splitter_steps(const splitter *s)
{
    return s->work;
}

int splitter_keeps_whole(const splitter *s)
{
    for (int i = 0; i < s->n; i++)
        if (s->steps[i].kind != STEP_META && s->steps[i].kind != STEP_SPACE) return 0;
    return !s->leaves_bytes;
}

/* ---- reading ------------------------------------------------------------------------------------
 */

typedef struct reader {
    splitter *s;
    const char *file;
    sqz_error *err;
} reader;

/* Room for one more step, or NULL with the error set. */
static step *step_new(const reader *r, step_kind kind, sqz_status *st)
{
    if (r->s->n == MAX_STEPS) {
        *st = err_set(r->err, SQZ_E_UNSUPPORTED, "%s: more than %d pre-tokenizer steps", r->file,
                      MAX_STEPS);
        return NULL;
    }
    step *s = &r->s->steps[r->s->n++];
    *s = (step){.kind = kind};
    *st = SQZ_OK;
    return s;
}

static sqz_status read_behaviour(const reader *r, const cJSON *json, behaviour *how)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *text = json_str(json, "behavior", "Isolated");
    for (int i = 0; i < 5; i++)
        if (!strcmp(text, names[i])) {
            *how = (behaviour)i;
            return SQZ_OK;
        }
    return err_set(r->err, SQZ_E_UNSUPPORTED, "%s: split behavior \"%s\" is not known", r->file,
                   text);
}

static sqz_status add_class(const reader *r, char_class class, behaviour how)
{
    sqz_status st;
    step *s = step_new(r, STEP_CLASS, &st);
    if (!s) return st;
    s->class = class;
    s->how = how;
    return SQZ_OK;
}

static sqz_status add_regex(const reader *r, const char *regex, behaviour how, int invert)
{
    sqz_status st;
    step *s = step_new(r, STEP_PATTERN, &st);
    if (!s) return st;
    s->how = how;
    s->invert = invert;
    return pattern_regex(regex, r->file, &s->pattern, r->err);
}

static sqz_status add_split(const reader *r, const cJSON *json)
{
    sqz_status st;
    step *s = step_new(r, STEP_PATTERN, &st);
    if (!s) return st;
    s->invert = json_bool(json, "invert", 0);
    st = read_behaviour(r, json, &s->how);
    return st == SQZ_OK ? pattern_json(json_get(json, "pattern"), r->file, &s->pattern, r->err)
                        : st;
}

static sqz_status add_byte_level(const reader *r, const cJSON *json)
{
    sqz_status st = SQZ_OK;
    if (json_bool(json, "add_prefix_space", 1)) step_new(r, STEP_SPACE, &st);
    if (st == SQZ_OK && json_bool(json, "use_regex", 1))
        st = add_regex(r, gpt2_expression, ISOLATED, 0);
    if (st == SQZ_OK) step_new(r, STEP_BYTES, &st);
    return st;
}

static sqz_status add_metaspace(const reader *r, const cJSON *json)
{
    const char *replacement = json_str(json, "replacement", "\xE2\x96\x81");
    const char *scheme = json_str(json, "prepend_scheme", NULL);
    uint32_t c;
    int64_t n = (int64_t)strlen(replacement);
    if (!scheme) scheme = json_bool(json, "add_prefix_space", 1) ? "always" : "never";
    if (n == 0 || utf8_next(replacement, n, &c) != n)
        return err_set(r->err, ERR_MODEL, "%s: Metaspace replacement must be one character",
                       r->file);
    sqz_status st;
    step *s = step_new(r, STEP_META, &st);
    if (!s) return st;
    memcpy(s->replacement, replacement, (size_t)n + 1);
    if (!strcmp(scheme, "always"))
        s->prepend = PREPEND_ALWAYS;
    else if (!strcmp(scheme, "first"))
        s->prepend = PREPEND_FIRST;
    else if (strcmp(scheme, "never"))
        return err_set(r->err, ERR_MODEL, "%s: Metaspace prepend_scheme \"%s\" is not known",
                       r->file, scheme);
    if (!json_bool(json, "split", 1)) return SQZ_OK;
    s = step_new(r, STEP_PATTERN, &st);
    if (!s) return st;
    s->how = MERGED_WITH_NEXT;
    return pattern_literal(replacement, r->file, &s->pattern, r->err);
}

static sqz_status add_delimiter(const reader *r, const cJSON *json)
{
    const char *text = json_str(json, "delimiter", "");
    int64_t n = (int64_t)strlen(text);
    uint32_t c;
    if (!n || utf8_next(text, n, &c) != n)
        return err_set(r->err, ERR_MODEL, "%s: CharDelimiterSplit needs one character", r->file);
    sqz_status st;
    step *s = step_new(r, STEP_CHAR, &st);
    if (!s) return st;
    s->c = c;
    s->how = REMOVED;
    return SQZ_OK;
}

static sqz_status add_length(const reader *r, const cJSON *json)
{
    int64_t length = json_int(json, "length", 5);
    if (length < 1)
        return err_set(r->err, ERR_MODEL, "%s: FixedLength of %lld characters; 1 or more", r->file,
                       (long long)length);
    sqz_status st;
    step *s = step_new(r, STEP_LENGTH, &st);
    if (s) s->length = length;
    return st;
}

static sqz_status add_tree(const reader *r, const cJSON *json)
{
    const char *type = json_str(json, "type", "");
    sqz_status st = SQZ_OK;
    if (!strcmp(type, "Sequence")) {
        const cJSON *list = json_get(json, "pretokenizers"), *item;
        if (!cJSON_IsArray(list))
            return err_set(r->err, ERR_MODEL, "%s: pre_tokenizer Sequence without its list",
                           r->file);
        cJSON_ArrayForEach(item, list)
        {
            if (st == SQZ_OK) st = add_tree(r, item);
        }
        return st;
    }
    if (!strcmp(type, "Split")) return add_split(r, json);
    if (!strcmp(type, "ByteLevel")) return add_byte_level(r, json);
    if (!strcmp(type, "Metaspace")) return add_metaspace(r, json);
    if (!strcmp(type, "CharDelimiterSplit")) return add_delimiter(r, json);
    if (!strcmp(type, "WhitespaceSplit")) return add_class(r, CHAR_SPACE, REMOVED);
    if (!strcmp(type, "Whitespace")) {
        step_new(r, STEP_WORDS, &st);
        return st;
    }
    if (!strcmp(type, "UnicodeScripts")) {
        step_new(r, STEP_SCRIPTS, &st);
        return st;
    }
    if (!strcmp(type, "FixedLength")) return add_length(r, json);
    if (!strcmp(type, "Digits"))
        return add_class(r, CHAR_DIGIT,
                         json_bool(json, "individual_digits", 0) ? ISOLATED : CONTIGUOUS);
    if (!strcmp(type, "Punctuation")) {
        behaviour how = ISOLATED;
        st = read_behaviour(r, json, &how);
        return st == SQZ_OK ? add_class(r, CHAR_PUNCTUATION, how) : st;
    }
    if (!strcmp(type, "BertPreTokenizer")) {
        st = add_class(r, CHAR_SPACE, REMOVED);
        return st == SQZ_OK ? add_class(r, CHAR_PUNCTUATION, ISOLATED) : st;
    }
    return err_set(r->err, SQZ_E_UNSUPPORTED, "%s: pre_tokenizer \"%s\" is not built", r->file,
                   type);
}

sqz_status splitter_new(const cJSON *json, const char *file, splitter **out, sqz_error *err)
{
    splitter *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, SQZ_E_NOMEM, "%s: no memory for the pre-tokenizer", file);
    reader r = {s, file, err};
    sqz_status st = json && !cJSON_IsNull(json) ? add_tree(&r, json) : SQZ_OK;
    if (st != SQZ_OK) {
        splitter_free(s);
        return st;
    }
    *out = s;
    return SQZ_OK;
}

/* ---- splitting: the pieces of one word, glued as the behaviour says -----------------------------
 */

typedef struct gluer {
    pieces *out;
    int64_t base; /* spans before it belong to other words */
    behaviour how;
    int previous; /* the last piece was a match */
    span held;    /* MERGED_WITH_NEXT: a match that waits for what follows it */
} gluer;

static void glue(gluer *g, int64_t at, int64_t n, int match)
{
    pieces *out = g->out;
    int extend = 0;
    if (n <= 0 || (g->how == REMOVED && match)) return;
    if (g->how == MERGED_WITH_NEXT) {
        if (g->held.n && match) pieces_add_span(out, g->held.at, g->held.n);
        if (match) {
            g->held = (span){at, n};
            return;
        }
        at -= g->held.n;
        n += g->held.n;
        g->held.n = 0;
    }
    if (g->how == CONTIGUOUS) extend = match == g->previous;
    if (g->how == MERGED_WITH_PREVIOUS) extend = match && !g->previous;
    g->previous = match;
    if (extend && out->n > g->base && !out->failed)
        out->spans[out->n - 1].n += n;
    else
        pieces_add_span(out, at, n);
}

static sqz_status split_pattern(splitter *z, const step *s, const char *text, span word, gluer *g,
                                sqz_error *err)
{
    const char *p = text + word.at;
    int64_t at = 0, from = 0, begin, end;
    while (from <= word.n) {
        int got = pattern_find(s->pattern, p, word.n, from, &begin, &end);
        if (got < 0) return pattern_error(s->pattern, err);
        z->work += (got ? end : word.n) - from + 1;
        if (!got) break;
        if (begin > at) glue(g, word.at + at, begin - at, s->invert);
        glue(g, word.at + begin, end - begin, !s->invert);
        at = from = end;
        uint32_t c;
        if (end == begin) {
            int length = utf8_next(p + end, word.n - end, &c);
            from += length ? length : 1;
        }
    }
    if (at < word.n) glue(g, word.at + at, word.n - at, s->invert);
    return SQZ_OK;
}

/* Every character of the class is a match of its own. */
static void split_chars(const step *s, const char *text, span word, gluer *g)
{
    int64_t begin = 0, n;
    uint32_t c;
    const char *p = text + word.at;
    for (int64_t i = 0; i < word.n && (n = utf8_next(p + i, word.n - i, &c)); i += n) {
        if (s->kind == STEP_CHAR ? c != s->c : !char_is(c, s->class)) continue;
        glue(g, word.at + begin, i - begin, 0);
        glue(g, word.at + i, n, 1);
        begin = i + n;
    }
    glue(g, word.at + begin, word.n - begin, 0);
}

static void split_words(const char *text, span word, pieces *out)
{
    const char *p = text + word.at;
    int64_t begin = 0, n;
    int before = 0; /* 0: white space, 1: word, 2: anything else */
    uint32_t c;
    for (int64_t i = 0; i < word.n && (n = utf8_next(p + i, word.n - i, &c)); i += n) {
        int kind = char_is(c, CHAR_WORD) ? 1 : char_is(c, CHAR_SPACE) ? 0 : 2;
        if (kind == before) continue;
        if (before) pieces_add_span(out, word.at + begin, i - begin);
        begin = i;
        before = kind;
    }
    if (before) pieces_add_span(out, word.at + begin, word.n - begin);
}

static void split_lengths(const step *s, const char *text, span word, pieces *out)
{
    const char *p = text + word.at;
    int64_t begin = 0, chars = 0, n;
    uint32_t c;
    for (int64_t i = 0; i < word.n && (n = utf8_next(p + i, word.n - i, &c)); i += n) {
        if (chars++ < s->length) continue;
        pieces_add_span(out, word.at + begin, i - begin);
        begin = i;
        chars = 1;
    }
    if (word.n > begin) pieces_add_span(out, word.at + begin, word.n - begin);
}

/* As the reference has it, what stands before the first letter of any script belongs to no word. */
static void split_scripts(const char *text, span word, pieces *out)
{
    const char *p = text + word.at;
    int64_t begin = -1, n;
    int before = 0;
    uint32_t c;
    for (int64_t i = 0; i < word.n && (n = utf8_next(p + i, word.n - i, &c)); i += n) {
        int script = char_script(c);
        if (!script || script == before) continue;
        if (begin >= 0) pieces_add_span(out, word.at + begin, i - begin);
        begin = i;
        before = script;
    }
    if (begin >= 0) pieces_add_span(out, word.at + begin, word.n - begin);
}

/* ---- rewriting: steps that change the text ------------------------------------------------------
 */

static void rewrite_meta(const step *s, const char *p, int64_t n, int begins_text, text_buffer *out)
{
    int64_t length = (int64_t)strlen(s->replacement);
    int has = n > 0 && (*p == ' ' || (n >= length && !memcmp(p, s->replacement, (size_t)length)));
    if (!has && (s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && begins_text)))
        text_add(out, s->replacement, length);
    for (int64_t i = 0; i < n;) {
        const char *space = memchr(p + i, ' ', (size_t)(n - i));
        int64_t end = space ? space - p : n;
        text_add(out, p + i, end - i);
        if (space) text_add(out, s->replacement, length);
        i = end + 1;
    }
}

static void rewrite_words(const step *s, const pieces *in, pieces *out, int first)
{
    for (int64_t i = 0; i < in->n; i++) {
        const char *p = in->text.at + in->spans[i].at;
        int64_t n = in->spans[i].n, at = out->text.n;
        if (s->kind == STEP_META) {
            rewrite_meta(s, p, n, first && in->spans[i].at == 0, &out->text);
        } else if (s->kind == STEP_SPACE) {
            if (*p != ' ') text_add(&out->text, " ", 1);
            text_add(&out->text, p, n);
        } else {
            for (int64_t k = 0; k < n; k++) text_add_char(&out->text, byte_to_char((uint8_t)p[k]));
        }
        pieces_add_span(out, at, out->text.n - at);
    }
}

sqz_status splitter_run(splitter *z, pieces *words, int first, sqz_error *err)
{
    for (int i = 0; i < z->n; i++) {
        const step *s = &z->steps[i];
        pieces *out = &z->other;
        pieces_clear(out);
        z->work += words->text.n + words->n;
        if (s->kind >= STEP_SPACE) {
            rewrite_words(s, words, out, first);
        } else {
            for (int64_t w = 0; w < words->n; w++) {
                gluer g = {.out = out, .base = out->n, .how = s->how};
                sqz_status st = SQZ_OK;
                if (s->kind == STEP_PATTERN)
                    st = split_pattern(z, s, words->text.at, words->spans[w], &g, err);
                else if (s->kind == STEP_WORDS)
                    split_words(words->text.at, words->spans[w], out);
                else if (s->kind == STEP_LENGTH)
                    split_lengths(s, words->text.at, words->spans[w], out);
                else if (s->kind == STEP_SCRIPTS)
                    split_scripts(words->text.at, words->spans[w], out);
                else
                    split_chars(s, words->text.at, words->spans[w], &g);
                if (st != SQZ_OK) return st;
                if (g.held.n) pieces_add_span(out, g.held.at, g.held.n);
            }
            text_swap(&words->text, &out->text); /* the text itself stays */
        }
        if (!pieces_ok(out))
            return err_set(err, SQZ_E_NOMEM, "tokenizer: no memory to split the text");
        pieces_swap(words, out);
    }
    return SQZ_OK;
}
