/* requests.c - see requests.h. */
#include "requests.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the white space (Python's str.isspace) that the n bytes of text end with. */
static size_t space_at_end(const char *text, size_t n)
{
    static const char *const wide[] = {
        "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
        "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
        "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
        "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};
    if (!n) return 0;
    unsigned char c = (unsigned char)text[n - 1];
    if (c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f)) return 1;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        size_t k = strlen(wide[i]);
        if (n >= k && !memcmp(text + n - k, wide[i], k)) return k;
    }
    return 0;
}

sqz_status request_encode(const sqz_eval *e, const char *text, const int32_t **ids, int64_t *n)
{
    int32_t prefix = request_prefix(e), special = 1;
    const char *bos = NULL;
    unsigned char first = (unsigned char)*text;
    if (prefix >= 0 && !isalnum(first) && !isspace(first)) { /* nothing bos would begin with */
        sqz_status st = e->decode(e, &prefix, 1, 0, &bos);
        if (st) return st;
    }
    if (bos && *bos && !strncmp(text, bos, strlen(bos))) special = 0;
    return e->encode(e, text, special, ids, n);
}

int32_t request_prefix(const sqz_eval *e)
{
    return e->bos >= 0 ? e->bos : e->eos;
}

/* The continuation alone, after the prefix token. */
static sqz_status after_prefix(const sqz_host *host, const sqz_eval *e, const char *continuation,
                               sqz_loglik *r)
{
    const int32_t *ids;
    int64_t n;
    int32_t prefix = request_prefix(e);
    if (prefix < 0)
        return host->fail(
            host, SQZ_E_UNSUPPORTED,
            "log-likelihood: a context is empty, and the tokenizer has neither bos nor "
            "eos to put in its place");
    sqz_status st = e->encode(e, continuation, 0, &ids, &n);
    if (st) return st;
    if (n && ids[0] == prefix) {
        *r = (sqz_loglik){
            .context = ids, .n_context = 1, .continuation = ids + 1, .n_continuation = n - 1};
        return SQZ_OK;
    }
    *r = (sqz_loglik){.context = e->bos >= 0 ? &e->bos : &e->eos,
                      .n_context = 1,
                      .continuation = ids,
                      .n_continuation = n};
    return SQZ_OK;
}

static sqz_status after_context(const sqz_eval *e, const char *context, const char *continuation,
                                char *whole, sqz_loglik *r)
{
    size_t nc = strlen(context), stem = nc, k;
    while ((k = space_at_end(context, stem))) stem -= k;
    const int32_t *ctx, *all;
    int64_t n_ctx, n_all;
    memcpy(whole, context, stem);
    whole[stem] = 0;
    sqz_status st = request_encode(e, whole, &ctx, &n_ctx);
    if (st) return st;
    memcpy(whole, context, nc);
    memcpy(whole + nc, continuation, strlen(continuation) + 1);
    st = request_encode(e, whole, &all, &n_all);
    if (st) return st;
    *r = (sqz_loglik){.context = ctx, .n_context = n_ctx};
    if (n_all > n_ctx) {
        r->continuation = all + n_ctx;
        r->n_continuation = n_all - n_ctx;
    }
    return SQZ_OK;
}

sqz_status request_make(const sqz_host *host, const sqz_eval *e, const char *context,
                        const char *continuation, sqz_loglik *r)
{
    sqz_status st;
    if (*context) {
        char *whole = malloc(strlen(context) + strlen(continuation) + 1);
        if (!whole) return host->fail(host, SQZ_E_NOMEM, "log-likelihood: no memory for a request");
        st = after_context(e, context, continuation, whole, r);
        free(whole);
    } else {
        st = after_prefix(host, e, continuation, r);
    }
    if (st) return st;
    if (r->n_context < 1 || r->n_continuation < 1)
        return sqz_failf(
            host, SQZ_E_INVALID,
            "log-likelihood: %s has a row whose context or continuation encodes to nothing",
            e->rows->name);
    if (r->n_continuation > e->context_size)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "log-likelihood: %s has a continuation of %lld tokens; the model's "
                         "context is %lld",
                         e->rows->name, (long long)r->n_continuation, (long long)e->context_size);
    int64_t over = r->n_context + r->n_continuation - (e->context_size + 1);
    if (over > 0) {
        r->context += over;
        r->n_context -= over;
    }
    return SQZ_OK;
}

int64_t rows_wanted(const sqz_eval *e)
{
    return e->limit > 0 && e->limit < e->rows->n_rows ? e->limit : e->rows->n_rows;
}

int task_wants(const sqz_rows *rows, const char *name)
{
    int64_t n = rows->list_length(rows, 0, "request.metrics");
    if (n < 0) return -1;
    for (int64_t k = 0; k < n; k++)
        if (!strcmp(rows->list_text(rows, 0, "request.metrics", k), name)) return 1;
    return 0;
}

void report_share(const sqz_eval *e, const char *name, int64_t hits, int64_t n)
{
    double p = (double)hits / (double)n;
    e->metric(e, name, p, n > 1 ? sqrt(p * (1 - p) / (double)(n - 1)) : -1, n);
}
