/* regex.c - see regex.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "task/regex.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum { MATCH_LIMIT = 10000000 }; /* steps of one match; a runaway expression ends here */

struct regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    char *where;
    int groups;
    int count; /* of the last match: highest group that took part + 1 */
};

void regex_free(regex *r)
{
    if (!r) return;
    pcre2_match_context_free(r->context);
    pcre2_match_data_free(r->match);
    pcre2_code_free(r->code);
    free(r->where);
    free(r);
}

static sqz_status compile(regex *r, const char *expression, sqz_error *err)
{
    int code = 0;
    uint32_t groups = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return err_set(err, SQZ_E_NOMEM, "%s: no memory for an expression", r->where);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    r->code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!r->code) {
        char reason[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        return err_set(err, ERR_USAGE, "%s: the expression \"%.200s\" fails at byte %zu: %s",
                       r->where, expression, (size_t)at, reason);
    }
    pcre2_pattern_info(r->code, PCRE2_INFO_CAPTURECOUNT, &groups);
    r->groups = (int)groups;
    r->match = pcre2_match_data_create_from_pattern(r->code, NULL);
    r->context = pcre2_match_context_create(NULL);
    if (!r->match || !r->context)
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for an expression", r->where);
    pcre2_set_match_limit(r->context, MATCH_LIMIT);
    return SQZ_OK;
}

sqz_status regex_new(const char *expression, const char *where, regex **out, sqz_error *err)
{
    regex *r = calloc(1, sizeof *r);
    if (r) r->where = strdup(where);
    if (!r || !r->where) {
        free(r);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for an expression", where);
    }
    sqz_status st = compile(r, expression, err);
    if (st) {
        regex_free(r);
        return st;
    }
    *out = r;
    return SQZ_OK;
}

int regex_groups(const regex *r)
{
    return r->groups;
}

sqz_status regex_next(regex *r, regex_walk *w, int *found, sqz_error *err)
{
    *found = 0;
    if (w->at > w->n) return SQZ_OK;
    /* After an empty match the next one may begin at the same place only if it is not empty. */
    uint32_t flags = w->after_empty ? PCRE2_NOTEMPTY_ATSTART : 0;
    int rc = pcre2_match(r->code, (PCRE2_SPTR)w->text, (PCRE2_SIZE)w->n, (PCRE2_SIZE)w->at, flags,
                         r->match, r->context);
    if (rc == PCRE2_ERROR_NOMATCH) return SQZ_OK;
    if (rc < 0) {
        char reason[160] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)reason, sizeof reason);
        return err_set(err, ERR_MODEL, "%s: the expression gave up on a text of %lld bytes: %s",
                       r->where, (long long)w->n, reason);
    }
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(r->match);
    r->count = rc;
    w->after_empty = ends[1] == ends[0];
    w->at = (int64_t)ends[1];
    *found = 1;
    return SQZ_OK;
}

span regex_group(const regex *r, int group)
{
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(r->match);
    if (group >= r->count || ends[2 * group] == PCRE2_UNSET) return (span){0, 0};
    return (span){(int64_t)ends[2 * group], (int64_t)(ends[2 * group + 1] - ends[2 * group])};
}

static void add_replacement(const regex *r, const char *replacement, const char *text,
                            text_buffer *out)
{
    for (const char *p = replacement; *p; p++) {
        if (*p == '\\' && p[1] >= '1' && p[1] <= '9') {
            span g = regex_group(r, *++p - '0');
            text_add(out, text + g.at, g.n);
        } else if (*p == '\\' && p[1] == '\\') {
            text_add(out, p++, 1);
        } else {
            text_add(out, p, 1);
        }
    }
}

sqz_status regex_replace(regex *r, const char *replacement, text_buffer *text, sqz_error *err)
{
    text_buffer out = {0};
    regex_walk w = {.text = text->at ? text->at : "", .n = text->n};
    int64_t copied = 0;
    int found = 1;
    sqz_status st = SQZ_OK;
    while (!st && found) {
        st = regex_next(r, &w, &found, err);
        if (st || !found) break;
        span all = regex_group(r, 0);
        text_add(&out, w.text + copied, all.at - copied);
        add_replacement(r, replacement, w.text, &out);
        copied = all.at + all.n;
    }
    if (!st) text_add(&out, w.text + copied, w.n - copied);
    if (!st && out.failed) st = err_set(err, SQZ_E_NOMEM, "%s: no memory for a text", r->where);
    if (!st) text_swap(text, &out);
    text_free(&out);
    return st;
}
