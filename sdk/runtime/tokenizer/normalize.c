/* normalize.c - see normalize.h.
 *
 * Sequences are flattened into one list of steps, and BertNormalizer is taken apart into its four.
 */
#include "tokenizer/normalize.h"
#include "json/json.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"
#include <stdlib.h>
#include <string.h>

typedef enum step_kind {
    STEP_UNICODE,
    STEP_LOWERCASE,
    STEP_STRIP_ACCENTS,
    STEP_STRIP,
    STEP_REPLACE,
    STEP_PREPEND,
    STEP_BYTES,
    STEP_CHARSMAP,
    STEP_CLEAN,   /* BertNormalizer: no control characters, plain spaces */
    STEP_NMT,     /* no control characters, plain spaces, by a list of its own */
    STEP_CHINESE, /* BertNormalizer: spaces around ideographs */
    STEP_STRIP_NONSPACING
} step_kind;

typedef struct step {
    step_kind kind;
    unicode_form form;
    int left, right;
    pattern *pattern;
    char *content; /* replacement, or what is put in front */
    charsmap *map;
} step;

enum { MAX_STEPS = 64 };

struct normalizer {
    step steps[MAX_STEPS];
    int n;
    text_buffer other; /* what the next step writes */
    unicode_scratch scratch;
    int64_t work;
};

void normalizer_free(normalizer *z)
{
    if (!z) return;
    for (int i = 0; i < z->n; i++) {
        pattern_free(z->steps[i].pattern);
        free(z->steps[i].content);
        charsmap_free(z->steps[i].map);
    }
    text_free(&z->other);
    unicode_free(&z->scratch);
    free(z);
}

int64_t normalizer_steps(const normalizer *z)
{
    return z->work + z->scratch.steps;
}

int normalizer_is_empty(const normalizer *z)
{
    return z->n == 0;
}

/* ---- reading ------------------------------------------------------------------------------------
 */

/* 0: none of the four. */
static unicode_form form_named(const char *type)
{
    if (!strcmp(type, "NFC")) return UNICODE_NFC;
    if (!strcmp(type, "NFD")) return UNICODE_NFD;
    if (!strcmp(type, "NFKC")) return UNICODE_NFKC;
    return strcmp(type, "NFKD") ? 0 : UNICODE_NFKD;
}

/* Room for one more step, or NULL with the error set. */
static step *step_new(normalizer *z, step_kind kind, const char *file, sqz_status *st,
                      sqz_error *err)
{
    if (z->n == MAX_STEPS) {
        *st = err_set(err, SQZ_E_UNSUPPORTED, "%s: more than %d normalizers", file, MAX_STEPS);
        return NULL;
    }
    step *s = &z->steps[z->n++];
    *s = (step){.kind = kind};
    *st = SQZ_OK;
    return s;
}

static sqz_status add_bert(normalizer *z, const cJSON *json, const char *file, sqz_error *err)
{
    int lower = json_bool(json, "lowercase", 1);
    sqz_status st = SQZ_OK;
    if (json_bool(json, "clean_text", 1)) step_new(z, STEP_CLEAN, file, &st, err);
    if (st == SQZ_OK && json_bool(json, "handle_chinese_chars", 1))
        step_new(z, STEP_CHINESE, file, &st, err);
    if (st == SQZ_OK && json_bool(json, "strip_accents", lower)) {
        step *s = step_new(z, STEP_UNICODE, file, &st, err);
        if (s) s->form = UNICODE_NFD;
        if (s) step_new(z, STEP_STRIP_NONSPACING, file, &st, err);
    }
    if (st == SQZ_OK && lower) step_new(z, STEP_LOWERCASE, file, &st, err);
    return st;
}

static sqz_status add_step(normalizer *z, const cJSON *json, const char *file, sqz_error *err)
{
    const char *type = json_str(json, "type", "");
    if (!strcmp(type, "BertNormalizer")) return add_bert(z, json, file, err);
    sqz_status room;
    step *s = step_new(z, STEP_UNICODE, file, &room, err);
    if (!s) return room;
    if ((s->form = form_named(type))) {
        s->kind = STEP_UNICODE;
    } else if (!strcmp(type, "Lowercase")) {
        s->kind = STEP_LOWERCASE;
    } else if (!strcmp(type, "Nmt")) {
        s->kind = STEP_NMT;
    } else if (!strcmp(type, "StripAccents")) {
        s->kind = STEP_STRIP_ACCENTS;
    } else if (!strcmp(type, "Strip")) {
        s->kind = STEP_STRIP;
        s->left = json_bool(json, "strip_left", 1);
        s->right = json_bool(json, "strip_right", 1);
    } else if (!strcmp(type, "ByteLevel")) {
        s->kind = STEP_BYTES;
    } else if (!strcmp(type, "Prepend") || !strcmp(type, "Replace")) {
        s->kind = *type == 'P' ? STEP_PREPEND : STEP_REPLACE;
        const char *content = json_str(json, *type == 'P' ? "prepend" : "content", NULL);
        if (!content)
            return err_set(err, ERR_MODEL, "%s: normalizer %s without its text", file, type);
        if (s->kind == STEP_REPLACE) {
            sqz_status st = pattern_json(json_get(json, "pattern"), file, &s->pattern, err);
            if (st != SQZ_OK) return st;
        }
        s->content = strdup(content);
        if (!s->content) return err_set(err, SQZ_E_NOMEM, "%s: no memory for the normalizer", file);
    } else if (!strcmp(type, "Precompiled")) {
        s->kind = STEP_CHARSMAP;
        sqz_status st =
            charsmap_base64(json_str(json, "precompiled_charsmap", ""), file, &s->map, err);
        if (st != SQZ_OK) return st;
    } else {
        return err_set(err, SQZ_E_UNSUPPORTED, "%s: normalizer \"%s\" is not built", file, type);
    }
    return SQZ_OK;
}

static sqz_status add_tree(normalizer *z, const cJSON *json, const char *file, sqz_error *err)
{
    if (strcmp(json_str(json, "type", ""), "Sequence")) return add_step(z, json, file, err);
    const cJSON *list = json_get(json, "normalizers"), *item;
    if (!cJSON_IsArray(list))
        return err_set(err, ERR_MODEL, "%s: normalizer Sequence without \"normalizers\"", file);
    sqz_status st = SQZ_OK;
    cJSON_ArrayForEach(item, list)
    {
        if (st == SQZ_OK) st = add_tree(z, item, file, err);
    }
    return st;
}

sqz_status normalizer_new(const cJSON *json, const char *file, normalizer **out, sqz_error *err)
{
    normalizer *z = calloc(1, sizeof *z);
    if (!z) return err_set(err, SQZ_E_NOMEM, "%s: no memory for the normalizer", file);
    sqz_status st = json && !cJSON_IsNull(json) ? add_tree(z, json, file, err) : SQZ_OK;
    if (st != SQZ_OK) {
        normalizer_free(z);
        return st;
    }
    *out = z;
    return SQZ_OK;
}

sqz_status normalizer_put_charsmap(normalizer *z, const void *blob, int64_t n, const char *file,
                                   sqz_error *err)
{
    sqz_status st;
    if (!step_new(z, STEP_CHARSMAP, file, &st, err)) return st;
    memmove(z->steps + 1, z->steps, (size_t)(z->n - 1) * sizeof *z->steps);
    z->steps[0] = (step){.kind = STEP_CHARSMAP};
    return charsmap_new(blob, n, file, &z->steps[0].map, err);
}

/* ---- running: each step reads `in` and appends to `out` -----------------------------------------
 */

/* Below U+0300 nothing composes; compatibility forms and decompositions begin at U+00A0. */
static int needs_unicode(const step *s, const text_buffer *in)
{
    uint8_t limit = s->form == UNICODE_NFC ? 0xCC : 0xC2;
    for (int64_t i = 0; i < in->n; i++)
        if ((uint8_t)in->at[i] >= limit) return 1;
    return 0;
}

static sqz_status run_unicode(normalizer *z, const step *s, const text_buffer *in, text_buffer *out)
{
    if (needs_unicode(s, in))
        unicode_normalize(&z->scratch, s->form, in->at, in->n, out);
    else
        text_add(out, in->at, in->n);
    return SQZ_OK;
}

static sqz_status run_replace(const step *s, const text_buffer *in, text_buffer *out,
                              sqz_error *err)
{
    int64_t at = 0, from = 0, begin, end;
    while (from <= in->n) {
        int got = pattern_find(s->pattern, in->at, in->n, from, &begin, &end);
        if (got < 0) return pattern_error(s->pattern, err);
        if (!got) break;
        text_add(out, in->at + at, begin - at);
        text_add(out, s->content, (int64_t)strlen(s->content));
        at = from = end;
        uint32_t c;
        if (end == begin) { /* after an empty match the next one begins a character later */
            int length = utf8_next(in->at + end, in->n - end, &c);
            from += length ? length : 1;
        }
    }
    text_add(out, in->at + at, in->n - at);
    return SQZ_OK;
}

/* BERT's Chinese characters: the blocks of unified and compatibility ideographs it lists. */
static int is_ideograph(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* The characters that SentencePiece's "nmt" rules take away, and those that become spaces. */
static int nmt_drops(uint32_t c)
{
    return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
           c == 0x8F || c == 0x9F;
}

static int nmt_spaces(uint32_t c)
{
    return c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
           (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
           c == 0xFEFF || c == 0xFFFD;
}

/* One character of a step that looks at each by itself. */
static void run_char(const step *s, uint32_t c, text_buffer *out)
{
    switch (s->kind) {
    case STEP_STRIP_ACCENTS:
        if (char_is(c, CHAR_MARK)) return;
        break;
    case STEP_STRIP_NONSPACING:
        if (char_is(c, CHAR_NONSPACING)) return;
        break;
    case STEP_CLEAN:
        if (c != '\t' && c != '\n' && c != '\r' && (c == 0xFFFD || char_is(c, CHAR_OTHER))) return;
        if (char_is(c, CHAR_SPACE)) c = ' ';
        break;
    case STEP_NMT:
        if (nmt_drops(c)) return;
        if (nmt_spaces(c)) c = ' ';
        break;
    case STEP_CHINESE:
        if (!is_ideograph(c)) break;
        text_add(out, " ", 1);
        text_add_char(out, c);
        c = ' ';
        break;
    default:              /* STEP_LOWERCASE */
        if (c == 0x130) { /* the one letter whose lower case has two characters */
            text_add(out, "i\xCC\x87", 3);
            return;
        }
        c = char_lower(c);
    }
    text_add_char(out, c);
}

static void run_chars(const step *s, const text_buffer *in, text_buffer *out)
{
    uint32_t c;
    for (int64_t i = 0, n; i < in->n && (n = utf8_next(in->at + i, in->n - i, &c)); i += n)
        run_char(s, c, out);
}

static void run_strip(const step *s, const text_buffer *in, text_buffer *out)
{
    int64_t begin = 0, end = 0, n;
    uint32_t c;
    int started = !s->left;
    for (int64_t i = 0; i < in->n && (n = utf8_next(in->at + i, in->n - i, &c)); i += n) {
        int space = char_is(c, CHAR_SPACE);
        if (!started && !space) {
            begin = i;
            started = 1;
        }
        if (started && (!space || !s->right)) end = i + n;
    }
    text_add(out, in->at + begin, end - begin);
}

static sqz_status run_step(normalizer *z, const step *s, const text_buffer *in, text_buffer *out,
                           sqz_error *err)
{
    switch (s->kind) {
    case STEP_UNICODE: return run_unicode(z, s, in, out);
    case STEP_REPLACE: return run_replace(s, in, out, err);
    case STEP_PREPEND:
        text_add(out, s->content, in->n ? (int64_t)strlen(s->content) : 0);
        text_add(out, in->at, in->n);
        return SQZ_OK;
    case STEP_STRIP: run_strip(s, in, out); return SQZ_OK;
    case STEP_CHARSMAP: charsmap_run(s->map, in->at, in->n, out); return SQZ_OK;
    case STEP_BYTES:
        for (int64_t i = 0; i < in->n; i++) text_add_char(out, byte_to_char((uint8_t)in->at[i]));
        return SQZ_OK;
    default: run_chars(s, in, out); return SQZ_OK;
    }
}

sqz_status normalizer_run(normalizer *z, text_buffer *text, sqz_error *err)
{
    for (int i = 0; i < z->n; i++) {
        z->other.n = 0;
        z->work += text->n;
        sqz_status st = run_step(z, &z->steps[i], text, &z->other, err);
        if (st == SQZ_OK && z->other.failed)
            st = err_set(err, SQZ_E_NOMEM, "tokenizer: no memory to normalize the text");
        if (st != SQZ_OK) return st;
        text_swap(text, &z->other);
    }
    return SQZ_OK;
}
