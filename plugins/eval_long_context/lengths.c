/* lengths.c - see long_context.h. */
#include "long_context.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

sqz_status lengths_plan(const sqz_host *host, const sqz_eval *e, const char *who, int64_t shortest,
                        lengths *out)
{
    int64_t longest = e->window > 0 ? e->window : e->context_size;
    *out = (lengths){0};
    if (longest > e->context_size)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "%s: --window %lld is beyond the model's context of %lld tokens", who,
                         (long long)longest, (long long)e->context_size);
    if (longest < shortest)
        return sqz_failf(host, SQZ_E_UNSUPPORTED,
                         "%s: %s of %lld tokens is too short for the shortest length, %lld; give a "
                         "smaller one with --param min_length=N",
                         who, e->window > 0 ? "--window" : "the model's context",
                         (long long)longest, (long long)shortest);
    for (int64_t at = shortest; at <= longest && out->n < MAX_LENGTHS; at *= 2)
        out->at[out->n++] = at;
    int64_t last = out->at[out->n - 1];
    if (out->n < MAX_LENGTHS && longest - last >= last / 2) out->at[out->n++] = longest;
    return SQZ_OK;
}

void lengths_cut(lengths *l, int64_t most)
{
    while (l->n && l->at[l->n - 1] > most) l->n--;
}

/* ---- speed ------------------------------------------------------------------------------------
 */

double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double speeds_median(speeds *s)
{
    if (!s->n) return 0;
    qsort(s->at, (size_t)s->n, sizeof *s->at, by_size);
    return s->n % 2 ? s->at[s->n / 2] : (s->at[s->n / 2 - 1] + s->at[s->n / 2]) / 2;
}

double speeds_report(const sqz_eval *e, speeds *s, int64_t length)
{
    double median = speeds_median(s);
    if (!s->n) return 0;
    report_at(e, "tokens_per_second", length, median, -1, s->n);
    report_at(e, "tokens_per_second_min", length, s->at[0], -1, s->n);
    report_at(e, "tokens_per_second_max", length, s->at[s->n - 1], -1, s->n);
    return median;
}

/* ---- metrics ----------------------------------------------------------------------------------
 */

void report_at(const sqz_eval *e, const char *name, int64_t length, double value, double stderr_,
               int64_t n)
{
    char key[96];
    if (length > 0)
        snprintf(key, sizeof key, "%s,%lld", name, (long long)length);
    else
        snprintf(key, sizeof key, "%s", name);
    e->metric(e, key, value, stderr_, n);
}

void report_share(const sqz_eval *e, const char *name, int64_t length, int64_t hits, int64_t n)
{
    double p = n ? (double)hits / (double)n : 0;
    if (n) report_at(e, name, length, p, n > 1 ? sqrt(p * (1 - p) / (double)(n - 1)) : -1, n);
}

/* ---- rows -------------------------------------------------------------------------------------
 */

int rows_are(const sqz_rows *rows, const char *kind)
{
    const char *is = rows->n_rows > 0 ? rows->text(rows, 0, "request.kind") : NULL;
    return is && !strcmp(is, kind);
}

const char *row_text(const sqz_rows *rows, int64_t i)
{
    const char *text = rows->text(rows, i, "request.document");
    return text ? text : rows->text(rows, i, "text");
}
