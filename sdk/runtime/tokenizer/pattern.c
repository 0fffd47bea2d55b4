/* pattern.c - see pattern.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/pattern.h"
#include "json/json.h"
#include "tokenizer/pieces.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

struct pattern {
    char *literal; /* or NULL: a regular expression */
    int64_t literal_bytes;
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    int jit;
    int failure; /* PCRE2's code of the last match that failed */
};

/* White_Space without U+180E, which PCRE2's \s still takes. */
#define SPACES                                                                                     \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
/* Alphabetic, marks, decimal digits, connectors. */
#define WORDS                                                                                      \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"                    \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
/* Oniguruma's \w takes six numbers of Latin-1 too, but only outside a set. */
#define LATIN1_WORDS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

/* ---- from Oniguruma's dialect to PCRE2's --------------------------------------------------------
 */

typedef struct rewriter {
    const char *p;
    const char *where;
    text_buffer out;
    int in_set;
    sqz_error *err;
} rewriter;

static sqz_status refuse(const rewriter *r, const char *what)
{
    return err_set(r->err, SQZ_E_UNSUPPORTED, "%s: the expression uses %s, which is not built",
                   r->where, what);
}

static void put(rewriter *r, const char *text)
{
    text_add(&r->out, text, (int64_t)strlen(text));
}

/* \p{...}: PCRE2 would take a bare script name as its extensions; Oniguruma means the script. */
static sqz_status rewrite_property(rewriter *r)
{
    const char *close = strchr(r->p, '}');
    if (!close) return refuse(r, "\\p without its closing brace");
    const char *name = r->p + 3;
    int inverted = *name == '^';
    int n = (int)(close - name) - inverted;
    text_add(&r->out, r->p, 3 + inverted);
    int general = n <= 2 || (n == 3 && !strncmp(name + inverted, "Any", 3));
    if (!general && !memchr(name, '=', (size_t)(close - name)) &&
        !memchr(name, ':', (size_t)(close - name)))
        put(r, "sc:");
    text_add(&r->out, name + inverted, n);
    put(r, "}");
    r->p = close + 1;
    return SQZ_OK;
}

/* p is on a backslash. */
static sqz_status rewrite_escape(rewriter *r)
{
    char c = r->p[1];
    if (!c) return refuse(r, "a backslash at its end");
    if ((c == 'p' || c == 'P') && r->p[2] == '{') return rewrite_property(r);
    const char *words = r->in_set ? WORDS : WORDS LATIN1_WORDS;
    const char *inside = c == 's' ? SPACES : c == 'w' ? words : c == 'h' ? "0-9a-fA-F" : NULL;
    const char *outside = c == 'S' ? SPACES : c == 'W' ? words : c == 'H' ? "0-9a-fA-F" : NULL;
    if (outside && r->in_set) {
        /* PCRE2 has no sets within sets; its own \S, \W, \H differ for a handful of characters. */
        if (c != 'S') return refuse(r, c == 'W' ? "\\W inside a set" : "\\H inside a set");
        put(r, "\\S");
    } else if (inside || outside) {
        if (!r->in_set) put(r, inside ? "[" : "[^");
        put(r, inside ? inside : outside);
        if (!r->in_set) put(r, "]");
    } else {
        text_add(&r->out, r->p, 2);
    }
    r->p += 2;
    return SQZ_OK;
}

static sqz_status rewrite(rewriter *r)
{
    while (*r->p) {
        sqz_status st = SQZ_OK;
        char c = *r->p;
        if (c == '\\') {
            st = rewrite_escape(r);
        } else if (!r->in_set && c == '[') {
            r->in_set = 1;
            int n = r->p[1] == '^' ? 2 : 1;
            if (r->p[n] == ']') n++; /* a literal bracket */
            text_add(&r->out, r->p, n);
            r->p += n;
        } else if (r->in_set && c == '[' && r->p[1] == ':') {
            const char *close = strstr(r->p, ":]");
            if (!close) return refuse(r, "an unfinished POSIX class");
            text_add(&r->out, r->p, close + 2 - r->p);
            r->p = close + 2;
        } else if (r->in_set && c == '[') {
            return refuse(r, "a set inside a set");
        } else if (r->in_set && c == '&' && r->p[1] == '&') {
            return refuse(r, "an intersection of sets (&&)");
        } else {
            if (r->in_set && c == ']') r->in_set = 0;
            text_add(&r->out, r->p++, 1);
        }
        if (st != SQZ_OK) return st;
    }
    return r->out.failed ? err_set(r->err, SQZ_E_NOMEM, "%s: no memory", r->where) : SQZ_OK;
}

/* ---- compiling ----------------------------------------------------------------------------------
 */

static sqz_status compile(pattern *p, const text_buffer *text, const char *where, sqz_error *err)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return err_set(err, SQZ_E_NOMEM, "%s: no memory for an expression", where);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    p->code = pcre2_compile((PCRE2_SPTR)text->at, (PCRE2_SIZE)text->n,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &code, &at, context);
    pcre2_compile_context_free(context);
    if (!p->code) {
        char reason[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        return err_set(err, ERR_MODEL, "%s: the expression cannot be compiled at byte %zu: %s",
                       where, (size_t)at, reason);
    }
    p->match = pcre2_match_data_create_from_pattern(p->code, NULL);
    p->context = pcre2_match_context_create(NULL);
    p->stack = pcre2_jit_stack_create(32 << 10, 8 << 20, NULL);
    if (!p->match || !p->context || !p->stack)
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for an expression", where);
    p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    pcre2_jit_stack_assign(p->context, NULL, p->stack);
    return SQZ_OK;
}

sqz_status pattern_regex(const char *expression, const char *where, pattern **out, sqz_error *err)
{
    pattern *p = calloc(1, sizeof *p);
    if (!p) return err_set(err, SQZ_E_NOMEM, "%s: no memory for an expression", where);
    rewriter r = {expression, where, {0}, 0, err};
    sqz_status st = rewrite(&r);
    if (st == SQZ_OK) st = compile(p, &r.out, where, err);
    text_free(&r.out);
    if (st != SQZ_OK) {
        pattern_free(p);
        return st;
    }
    *out = p;
    return SQZ_OK;
}

sqz_status pattern_literal(const char *text, const char *where, pattern **out, sqz_error *err)
{
    pattern *p = calloc(1, sizeof *p);
    if (p) p->literal = strdup(text);
    if (!p || !p->literal) {
        free(p);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for a pattern", where);
    }
    p->literal_bytes = (int64_t)strlen(text);
    *out = p;
    return SQZ_OK;
}

sqz_status pattern_json(const cJSON *json, const char *where, pattern **out, sqz_error *err)
{
    const char *regex = json_str(json, "Regex", NULL), *literal = json_str(json, "String", NULL);
    if (regex) return pattern_regex(regex, where, out, err);
    if (!literal) literal = cJSON_IsString(json) ? json->valuestring : NULL;
    if (literal) return pattern_literal(literal, where, out, err);
    return err_set(err, ERR_MODEL, "%s: \"pattern\" must be {\"String\": ...} or {\"Regex\": ...}",
                   where);
}

void pattern_free(pattern *p)
{
    if (!p) return;
    free(p->literal);
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->context);
    pcre2_jit_stack_free(p->stack);
    pcre2_code_free(p->code);
    free(p);
}

/* ---- matching -----------------------------------------------------------------------------------
 */

static int find_literal(const pattern *p, const char *s, int64_t n, int64_t from, int64_t *begin,
                        int64_t *end)
{
    if (!p->literal_bytes || from >= n) return 0;
    const char *at = memmem(s + from, (size_t)(n - from), p->literal, (size_t)p->literal_bytes);
    if (!at) return 0;
    *begin = at - s;
    *end = *begin + p->literal_bytes;
    return 1;
}

int pattern_find(pattern *p, const char *s, int64_t n, int64_t from, int64_t *begin, int64_t *end)
{
    if (p->literal) return find_literal(p, s, n, from, begin, end);
    int got = PCRE2_ERROR_JIT_STACKLIMIT;
    if (p->jit)
        got = pcre2_jit_match(p->code, (PCRE2_SPTR)s, (PCRE2_SIZE)n, (PCRE2_SIZE)from, 0, p->match,
                              p->context);
    if (got == PCRE2_ERROR_JIT_STACKLIMIT) /* also the way without JIT */
        got = pcre2_match(p->code, (PCRE2_SPTR)s, (PCRE2_SIZE)n, (PCRE2_SIZE)from,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, p->match, p->context);
    if (got == PCRE2_ERROR_NOMATCH) return 0;
    if (got < 0) {
        p->failure = got;
        return -1;
    }
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(p->match);
    *begin = (int64_t)range[0];
    *end = (int64_t)range[1];
    return *end >= *begin;
}

sqz_status pattern_error(const pattern *p, sqz_error *err)
{
    char reason[160] = "";
    pcre2_get_error_message(p->failure, (PCRE2_UCHAR *)reason, sizeof reason);
    return err_set(err, ERR_MODEL, "tokenizer: its expression failed on this text: %s", reason);
}
