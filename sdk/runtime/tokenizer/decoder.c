/* decoder.c - see decoder.h.
 *
 * Sequences are flattened. */
#include "tokenizer/decoder.h"
#include "json/json.h"
#include "tokenizer/pattern.h"
#include <stdlib.h>
#include <string.h>

typedef enum step_kind {
    STEP_BYTE_LEVEL,
    STEP_REPLACE,
    STEP_BYTE_FALLBACK,
    STEP_FUSE,
    STEP_STRIP,
    STEP_METASPACE,
    STEP_BPE_SUFFIX,
    STEP_WORDPIECE,
    STEP_CTC,
    STEP_SPACES
} step_kind;

typedef struct step {
    step_kind kind;
    pattern *pattern;
    /* replacement, stripped character, Metaspace's character, word suffix or prefix, CTC's blank */
    char *text;
    char *delimiter; /* CTC's space */
    int64_t start, stop;
    int drop_first; /* Metaspace: the first piece loses its marks */
    int cleanup;    /* WordPiece and CTC: no spaces before English punctuation */
} step;

enum { MAX_STEPS = 64 };

struct decoder {
    step steps[MAX_STEPS];
    int n;
    pieces other;
    text_buffer clean[2]; /* scratch of clean-up */
};

void decoder_free(decoder *d)
{
    if (!d) return;
    for (int i = 0; i < d->n; i++) {
        pattern_free(d->steps[i].pattern);
        free(d->steps[i].text);
        free(d->steps[i].delimiter);
    }
    pieces_free(&d->other);
    text_free(&d->clean[0]);
    text_free(&d->clean[1]);
    free(d);
}

/* ---- reading ------------------------------------------------------------------------------------
 */

static int one_char(const char *text)
{
    uint32_t c;
    int64_t n = (int64_t)strlen(text);
    return n > 0 && utf8_next(text, n, &c) == n;
}

static sqz_status set_text(step *s, const char *text, int single, const char *file, sqz_error *err)
{
    if (!text || (single && !one_char(text)))
        return err_set(err, ERR_MODEL, "%s: a decoder step has not the %s it needs", file,
                       single ? "single character" : "text");
    s->text = strdup(text);
    return s->text ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory for the decoder", file);
}

static sqz_status read_step(step *s, const cJSON *json, const char *file, sqz_error *err)
{
    const char *type = json_str(json, "type", "");
    if (!strcmp(type, "ByteLevel")) {
        s->kind = STEP_BYTE_LEVEL;
    } else if (!strcmp(type, "ByteFallback")) {
        s->kind = STEP_BYTE_FALLBACK;
    } else if (!strcmp(type, "Fuse")) {
        s->kind = STEP_FUSE;
    } else if (!strcmp(type, "Replace")) {
        s->kind = STEP_REPLACE;
        sqz_status st = pattern_json(json_get(json, "pattern"), file, &s->pattern, err);
        return st == SQZ_OK ? set_text(s, json_str(json, "content", NULL), 0, file, err) : st;
    } else if (!strcmp(type, "Strip")) {
        s->kind = STEP_STRIP;
        s->start = json_int(json, "start", 0);
        s->stop = json_int(json, "stop", 0);
        return set_text(s, json_str(json, "content", NULL), 1, file, err);
    } else if (!strcmp(type, "Metaspace")) {
        s->kind = STEP_METASPACE;
        const char *scheme = json_str(json, "prepend_scheme", NULL);
        s->drop_first =
            scheme ? strcmp(scheme, "never") != 0 : json_bool(json, "add_prefix_space", 1);
        return set_text(s, json_str(json, "replacement", "\xE2\x96\x81"), 1, file, err);
    } else if (!strcmp(type, "BPEDecoder")) {
        s->kind = STEP_BPE_SUFFIX;
        return set_text(s, json_str(json, "suffix", "</w>"), 0, file, err);
    } else if (!strcmp(type, "WordPiece")) {
        s->kind = STEP_WORDPIECE;
        s->cleanup = json_bool(json, "cleanup", 1);
        return set_text(s, json_str(json, "prefix", "##"), 0, file, err);
    } else if (!strcmp(type, "CTC")) {
        s->kind = STEP_CTC;
        s->cleanup = json_bool(json, "cleanup", 1);
        s->delimiter = strdup(json_str(json, "word_delimiter_token", "|"));
        if (!s->delimiter) return err_set(err, SQZ_E_NOMEM, "%s: no memory for the decoder", file);
        return set_text(s, json_str(json, "pad_token", "<pad>"), 0, file, err);
    } else {
        return err_set(err, SQZ_E_UNSUPPORTED, "%s: decoder \"%s\" is not built", file, type);
    }
    return SQZ_OK;
}

static sqz_status add_tree(decoder *d, const cJSON *json, const char *file, sqz_error *err)
{
    if (strcmp(json_str(json, "type", ""), "Sequence")) {
        if (d->n == MAX_STEPS)
            return err_set(err, SQZ_E_UNSUPPORTED, "%s: more than %d decoder steps", file,
                           MAX_STEPS);
        return read_step(&d->steps[d->n++], json, file, err);
    }
    const cJSON *list = json_get(json, "decoders"), *item;
    if (!cJSON_IsArray(list))
        return err_set(err, ERR_MODEL, "%s: decoder Sequence without \"decoders\"", file);
    sqz_status st = SQZ_OK;
    cJSON_ArrayForEach(item, list)
    {
        if (st == SQZ_OK) st = add_tree(d, item, file, err);
    }
    return st;
}

sqz_status decoder_new(const cJSON *json, const char *file, decoder **out, sqz_error *err)
{
    decoder *d = calloc(1, sizeof *d);
    if (!d) return err_set(err, SQZ_E_NOMEM, "%s: no memory for the decoder", file);
    sqz_status st = SQZ_OK;
    if (json && !cJSON_IsNull(json))
        st = add_tree(d, json, file, err);
    else
        d->steps[d->n++].kind = STEP_SPACES;
    if (st != SQZ_OK) {
        decoder_free(d);
        return st;
    }
    *out = d;
    return SQZ_OK;
}

/* ---- running: each step reads the tokens of `in` and writes those of `out` ---------------------
 */

/* The bytes of one piece, or the piece itself when a character of it stands for no byte. */
static void add_raw(text_buffer *raw, const char *p, int64_t n)
{
    int64_t begin = raw->n, length;
    uint32_t c;
    for (int64_t i = 0; i < n; i += length) {
        length = utf8_next(p + i, n - i, &c);
        int byte = length ? char_to_byte(c) : -1;
        if (byte < 0) {
            raw->n = begin;
            text_add(raw, p, n);
            return;
        }
        text_add(raw, (char[]){(char)byte}, 1);
    }
}

static void run_byte_level(const pieces *in, pieces *out)
{
    text_buffer raw = {0};
    for (int64_t i = 0; i < in->n; i++)
        add_raw(&raw, in->text.at + in->spans[i].at, in->spans[i].n);
    utf8_lossy(&out->text, raw.at, raw.n);
    pieces_add_span(out, 0, out->text.n);
    if (raw.failed) out->failed = 1;
    text_free(&raw);
}

static sqz_status replace(const step *s, const char *p, int64_t n, text_buffer *out, sqz_error *err)
{
    int64_t at = 0, from = 0, begin, end;
    while (from <= n) {
        int got = pattern_find(s->pattern, p, n, from, &begin, &end);
        if (got < 0) return pattern_error(s->pattern, err);
        if (!got) break;
        text_add(out, p + at, begin - at);
        text_add(out, s->text, (int64_t)strlen(s->text));
        at = from = end;
        if (end == begin) {
            uint32_t c;
            int length = utf8_next(p + end, n - end, &c);
            from += length ? length : 1;
        }
    }
    text_add(out, p + at, n - at);
    return SQZ_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* <0xHH>, or -1 */
static int fallback_byte(const char *p, int64_t n)
{
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return -1;
    int high = hex_digit(p[3]), low = hex_digit(p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A run of bytes becomes its characters when all of it is UTF-8, else one U+FFFD a byte. */
static void flush_bytes(text_buffer *run, pieces *out)
{
    if (!run->n) return;
    if (utf8_check(run->at, run->n) < 0)
        pieces_add(out, run->at, run->n);
    else
        for (int64_t i = 0; i < run->n; i++) pieces_add(out, "\xEF\xBF\xBD", 3);
    run->n = 0;
}

static void run_byte_fallback(const pieces *in, pieces *out)
{
    text_buffer run = {0};
    for (int64_t i = 0; i < in->n; i++) {
        const char *p = in->text.at + in->spans[i].at;
        int byte = fallback_byte(p, in->spans[i].n);
        if (byte >= 0) {
            text_add(&run, (char[]){(char)byte}, 1);
            continue;
        }
        flush_bytes(&run, out);
        pieces_add(out, p, in->spans[i].n);
    }
    flush_bytes(&run, out);
    if (run.failed) out->failed = 1;
    text_free(&run);
}

static void strip(const step *s, const char *p, int64_t n, pieces *out)
{
    int64_t length = (int64_t)strlen(s->text), begin = 0, end = n;
    for (int64_t k = 0; k < s->start && end - begin >= length; k++, begin += length)
        if (memcmp(p + begin, s->text, (size_t)length) != 0) break;
    for (int64_t k = 0; k < s->stop && end - begin >= length; k++, end -= length)
        if (memcmp(p + end - length, s->text, (size_t)length) != 0) break;
    pieces_add(out, p + begin, end - begin);
}

/* Appends p with every `mark` become `by`. */
static void swap_text(const char *mark, const char *by, const char *p, int64_t n, text_buffer *out)
{
    int64_t length = (int64_t)strlen(mark);
    for (int64_t i = 0; i < n;) {
        const char *hit = length ? memmem(p + i, (size_t)(n - i), mark, (size_t)length) : NULL;
        int64_t end = hit ? hit - p : n;
        text_add(out, p + i, end - i);
        if (hit) text_add(out, by, (int64_t)strlen(by));
        i = hit ? end + length : n;
    }
}

static void swap_marks(const char *mark, const char *by, const char *p, int64_t n, pieces *out)
{
    int64_t at = out->text.n;
    swap_text(mark, by, p, n, &out->text);
    pieces_add_span(out, at, out->text.n - at);
}

/* The reference's English spacing rules, one after another, each on what the last one left.
 * Text, result and n are clean[0]'s. */
static void clean_up(text_buffer clean[2])
{
    static const char *const rules[][2] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        clean[1].n = 0;
        swap_text(rules[i][0], rules[i][1], clean[0].at, clean[0].n, &clean[1]);
        text_swap(&clean[0], &clean[1]);
    }
}

/* A piece inside a word loses its prefix, another gets a space in front. */
static void run_wordpiece(decoder *d, const step *s, const char *p, int64_t n, int first,
                          pieces *out)
{
    text_buffer *text = &d->clean[0];
    int64_t length = (int64_t)strlen(s->text);
    int inside = n >= length && !memcmp(p, s->text, (size_t)length);
    text->n = 0;
    if (!first && !inside) text_add(text, " ", 1);
    if (!first && inside)
        text_add(text, p + length, n - length);
    else
        text_add(text, p, n);
    if (s->cleanup) clean_up(d->clean);
    if (d->clean[0].failed || d->clean[1].failed) out->failed = 1;
    pieces_add(out, d->clean[0].at, d->clean[0].n);
}

/* Repeated pieces count once, blanks vanish. */
static void run_ctc(decoder *d, const step *s, const pieces *in, int64_t i, pieces *out)
{
    const char *p = in->text.at + in->spans[i].at;
    int64_t n = in->spans[i].n;
    if (i && in->spans[i - 1].n == n && !memcmp(in->text.at + in->spans[i - 1].at, p, (size_t)n))
        return;
    d->clean[0].n = 0;
    swap_text(s->text, "", p, n, &d->clean[0]);
    if (s->cleanup) {
        clean_up(d->clean);
        d->clean[1].n = 0;
        swap_text(s->delimiter, " ", d->clean[0].at, d->clean[0].n, &d->clean[1]);
        text_swap(&d->clean[0], &d->clean[1]);
    }
    if (d->clean[0].failed || d->clean[1].failed) out->failed = 1;
    if (d->clean[0].n) pieces_add(out, d->clean[0].at, d->clean[0].n);
}

static sqz_status run_one(decoder *d, const step *s, const pieces *in, int64_t i, pieces *out,
                          sqz_error *err)
{
    const char *p = in->text.at + in->spans[i].at;
    int64_t n = in->spans[i].n, at = out->text.n;
    sqz_status st = SQZ_OK;
    switch (s->kind) {
    case STEP_REPLACE:
        st = replace(s, p, n, &out->text, err);
        pieces_add_span(out, at, out->text.n - at);
        break;
    case STEP_STRIP: strip(s, p, n, out); break;
    case STEP_METASPACE: swap_marks(s->text, i == 0 && s->drop_first ? "" : " ", p, n, out); break;
    case STEP_BPE_SUFFIX: swap_marks(s->text, i + 1 == in->n ? "" : " ", p, n, out); break;
    case STEP_WORDPIECE: run_wordpiece(d, s, p, n, i == 0, out); break;
    case STEP_CTC: run_ctc(d, s, in, i, out); break;
    case STEP_SPACES:
        if (i) text_add(&out->text, " ", 1);
        text_add(&out->text, p, n);
        pieces_add_span(out, at, out->text.n - at);
        break;
    default: /* STEP_FUSE */
        text_add(&out->text, p, n);
        if (i + 1 == in->n) pieces_add_span(out, 0, out->text.n);
    }
    return st;
}

sqz_status decoder_run(decoder *d, pieces *tokens, sqz_error *err)
{
    for (int i = 0; i < d->n; i++) {
        const step *s = &d->steps[i];
        sqz_status st = SQZ_OK;
        pieces_clear(&d->other);
        if (s->kind == STEP_BYTE_LEVEL)
            run_byte_level(tokens, &d->other);
        else if (s->kind == STEP_BYTE_FALLBACK)
            run_byte_fallback(tokens, &d->other);
        else
            for (int64_t k = 0; k < tokens->n && st == SQZ_OK; k++)
                st = run_one(d, s, tokens, k, &d->other, err);
        if (st == SQZ_OK && !pieces_ok(&d->other))
            st = err_set(err, SQZ_E_NOMEM, "tokenizer: no memory to decode");
        if (st != SQZ_OK) return st;
        pieces_swap(tokens, &d->other);
    }
    return SQZ_OK;
}
