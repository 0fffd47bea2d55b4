/* calibration.c - windows of tokens that methods are calibrated on, from one set or a mix, kept
 * apart from what is evaluated. */
#include "data/data.h"
#include "data/documents.h"
#include "hash/sha256.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int packing_parse(const char *text, packing *out)
{
    static const char *const words[] = {"concat", "document", "row"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, words[i])) {
            *out = (packing)i;
            return 1;
        }
    return 0;
}

int64_t calibration_tokens(const calibration *c)
{
    int64_t n = 0;
    if (!c->lengths) return c->windows * c->window;
    for (int64_t i = 0; i < c->windows; i++) n += c->lengths[i];
    return n;
}

/* splitmix64: small, and the same everywhere. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* ---- one set ------------------------------------------------------------------------------------
 */

/* What is made from one set: windows behind each other. */
typedef struct draft {
    const dataset *data;
    tokenizer *tokenizer;
    const calibration_options *options;
    uint8_t *skip; /* [rows] */
    id_list ids;
    int32_t *lengths; /* [windows], or NULL: all are seq_len */
    int64_t windows, wanted, wanted_tokens, left_out, passed_over;
    int64_t found; /* PACK_CONCAT: tokens of the stream before it was cut */
} draft;

static void draft_free(draft *f)
{
    free(f->skip);
    free(f->lengths);
    ids_free(&f->ids);
}

/* Moves `wanted` windows, drawn without repetition, to the front. */
static void draw_windows(int32_t *ids, int64_t windows, int64_t wanted, int64_t length,
                         uint64_t seed)
{
    for (int64_t i = 0; i < wanted; i++) {
        int64_t from = i + (int64_t)(next_random(&seed) % (uint64_t)(windows - i));
        int32_t *a = ids + i * length, *b = ids + from * length;
        for (int64_t k = 0; k < length; k++) {
            int32_t id = a[k];
            a[k] = b[k];
            b[k] = id;
        }
    }
}

static sqz_status cut_stream(draft *f, sqz_error *err)
{
    const calibration_options *o = f->options;
    int64_t limit = o->shuffle ? -1 : f->wanted * o->seq_len;
    sqz_status st = documents_stream(f->data, f->tokenizer, o->frame, f->skip, limit, &f->ids, err);
    if (st != SQZ_OK) return st;
    int64_t windows = f->ids.n / o->seq_len;
    f->found = f->ids.n;
    f->windows = windows < f->wanted ? windows : f->wanted;
    if (o->shuffle) draw_windows(f->ids.at, windows, f->windows, o->seq_len, o->seed);
    f->ids.n = f->windows * o->seq_len;
    return SQZ_OK;
}

/* Rows in the order in which they are taken; malloc'd. */
static int64_t *row_order(const draft *f)
{
    int64_t n = f->data->rows.n_rows;
    uint64_t seed = f->options->seed;
    int64_t *order = malloc((size_t)(n + 1) * sizeof *order);
    for (int64_t i = 0; i < n && order; i++) order[i] = i;
    for (int64_t i = 0; i < n && order && f->options->shuffle; i++) {
        int64_t k = i + (int64_t)(next_random(&seed) % (uint64_t)(n - i)), row = order[i];
        order[i] = order[k];
        order[k] = row;
    }
    return order;
}

/* Keeps of the ids from `begin` on what is the row's window; 0: the row has none. */
static int64_t keep_window(draft *f, int64_t begin, uint64_t *random)
{
    int64_t n = f->ids.n - begin, window = f->options->seq_len, from = 0;
    if (f->options->packing == PACK_DOCUMENT) {
        if (n < window) {
            f->passed_over++;
            f->ids.n = begin;
            return 0;
        }
        if (f->options->shuffle) from = (int64_t)(next_random(random) % (uint64_t)(n - window + 1));
        memmove(f->ids.at + begin, f->ids.at + begin + from, (size_t)window * sizeof *f->ids.at);
    }
    n = n < window ? n : window;
    f->ids.n = begin + n;
    return n;
}

/* PACK_DOCUMENT and PACK_ROW. */
static sqz_status take_rows(draft *f, sqz_error *err)
{
    frame_tokens frame;
    text_buffer scratch = {0};
    int64_t *order = row_order(f), rows = f->data->rows.n_rows;
    uint64_t random = ~f->options->seed; /* another stream than the order's */
    sqz_status st = documents_frame(f->data, f->tokenizer, f->options->frame, &frame, err);
    if (f->options->packing == PACK_ROW)
        f->lengths = malloc((size_t)(f->wanted < rows ? f->wanted : rows) * sizeof *f->lengths + 1);
    if (st == SQZ_OK && (!order || (f->options->packing == PACK_ROW && !f->lengths)))
        st = err_set(err, SQZ_E_NOMEM, "%s: no memory for its windows", f->data->path);
    for (int64_t i = 0; i < rows && st == SQZ_OK && f->windows < f->wanted; i++) {
        int64_t begin = f->ids.n;
        if (f->wanted_tokens && begin >= f->wanted_tokens) break;
        if (f->skip[order[i]]) continue;
        st = documents_add(f->data, f->tokenizer, order[i], &frame, &scratch, &f->ids, err);
        int64_t n = st == SQZ_OK ? keep_window(f, begin, &random) : 0;
        if (n < 2) { /* one token predicts nothing */
            f->ids.n = begin;
            continue;
        }
        if (f->lengths) f->lengths[f->windows] = (int32_t)n;
        f->windows++;
    }
    text_free(&scratch);
    free(order);
    return st;
}

static sqz_status make_draft(draft *f, sqz_error *err)
{
    const calibration_options *o = f->options;
    sqz_status st = SQZ_OK;
    f->skip = calloc((size_t)f->data->rows.n_rows + 1, 1);
    if (!f->skip) return err_set(err, SQZ_E_NOMEM, "%s: no memory to mark its rows", f->data->path);
    if (o->leak_check && o->n_leak_check)
        st = documents_mark_leaks(f->data, o->leak_check, o->n_leak_check, f->skip, &f->left_out,
                                  err);
    if (st != SQZ_OK) return st;
    st = o->packing == PACK_CONCAT ? cut_stream(f, err) : take_rows(f, err);
    if (st == SQZ_OK && !f->windows)
        st = err_set(err, ERR_MODEL,
                     "%s: %lld calibration tokens are less than one window of %lld (%lld rows left "
                     "out because they are evaluated too, %lld shorter than a window); use a "
                     "shorter --seq-len or more data",
                     f->data->path, (long long)f->found, (long long)o->seq_len,
                     (long long)f->left_out, (long long)f->passed_over);
    return st;
}

/* ---- several sets -------------------------------------------------------------------------------
 */

/* Shares of `total` by weight: whole numbers that add up, by the largest remainders. */
static sqz_status share_out(const calibration_part *parts, int64_t n, int64_t total, int64_t *share,
                            sqz_error *err)
{
    double sum = 0;
    int64_t given = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!(parts[i].weight > 0) || !isfinite(parts[i].weight))
            return err_set(err, ERR_USAGE, "%s: a weight of %g; give one above 0",
                           parts[i].data->path, parts[i].weight);
        sum += parts[i].weight;
    }
    for (int64_t i = 0; i < n; i++)
        given += share[i] = (int64_t)((double)total * (parts[i].weight / sum));
    for (; given < total; given++) {
        int64_t best = 0;
        double most = -1;
        for (int64_t i = 0; i < n; i++) {
            double rest = (double)total * (parts[i].weight / sum) - (double)share[i];
            if (rest > most) most = rest, best = i;
        }
        share[best]++;
    }
    for (int64_t i = 0; i < n; i++)
        if (!share[i])
            return err_set(err, ERR_USAGE,
                           "%s: its weight of %g gives it none of %lld windows; use more samples "
                           "or a larger weight",
                           parts[i].data->path, parts[i].weight, (long long)total);
    return SQZ_OK;
}

typedef struct piece { /* one window of one draft */
    const int32_t *ids;
    int64_t n;
    double at; /* where in the whole, 0 to 1 */
    int64_t part;
} piece;

/* Evenly spread: window j of n stands at (j + 1/2) / n. */
static int by_place(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    return (x->part > y->part) - (x->part < y->part);
}

/* Falling, so that windows of one length stand together; otherwise as they were. */
static int by_length(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    return x->n != y->n ? (x->n > y->n ? -1 : 1) : by_place(a, b);
}

static void hash_windows(calibration *c)
{
    sha256 *h = sha256_new();
    char shape[80];
    int n = snprintf(shape, sizeof shape, "sqz.calibration/1 %lld %lld\n", (long long)c->windows,
                     (long long)c->window);
    sha256_update(h, shape, (size_t)n);
    if (c->lengths) sha256_update(h, c->lengths, (size_t)c->windows * sizeof *c->lengths);
    uint8_t bytes[4096];
    int64_t total = calibration_tokens(c);
    for (int64_t i = 0; i < total;) {
        size_t used = 0;
        for (; i < total && used < sizeof bytes; i++, used += 4) {
            uint32_t v = (uint32_t)c->ids[i]; /* little-endian on every machine */
            for (int k = 0; k < 4; k++) bytes[used + (size_t)k] = (uint8_t)(v >> 8 * k);
        }
        sha256_update(h, bytes, used);
    }
    sha256_final(h, c->digest);
}

static sqz_status join(const draft *drafts, int64_t n_drafts, int64_t window, int ragged,
                       calibration *c, sqz_error *err)
{
    int64_t windows = 0, tokens = 0, k = 0;
    for (int64_t i = 0; i < n_drafts; i++) windows += drafts[i].windows, tokens += drafts[i].ids.n;
    piece *order = malloc((size_t)windows * sizeof *order);
    c->ids = malloc((size_t)tokens * sizeof *c->ids);
    c->lengths = ragged ? malloc((size_t)windows * sizeof *c->lengths) : NULL;
    if (!order || !c->ids || (ragged && !c->lengths)) {
        free(order);
        calibration_free(c);
        return err_set(err, SQZ_E_NOMEM, "no memory for %lld calibration tokens",
                       (long long)tokens);
    }
    for (int64_t i = 0; i < n_drafts; i++) {
        const int32_t *ids = drafts[i].ids.at;
        for (int64_t j = 0; j < drafts[i].windows; j++) {
            int64_t n = ragged ? drafts[i].lengths[j] : window;
            order[k++] = (piece){ids, n, ((double)j + 0.5) / (double)drafts[i].windows, i};
            ids += n;
        }
    }
    qsort(order, (size_t)windows, sizeof *order, ragged ? by_length : by_place);
    int32_t *to = c->ids;
    for (k = 0; k < windows; k++) {
        memcpy(to, order[k].ids, (size_t)order[k].n * sizeof *to);
        to += order[k].n;
        if (ragged) c->lengths[k] = (int32_t)order[k].n;
    }
    c->windows = windows;
    c->window = ragged ? order[0].n : window;
    free(order);
    hash_windows(c);
    return SQZ_OK;
}

static sqz_status check_options(const calibration_part *parts, const calibration_options *o,
                                sqz_error *err)
{
    int64_t limit;
    if (o->samples < 1 || o->seq_len < 2 || o->seq_len > INT32_MAX || o->tokens < 0 ||
        __builtin_mul_overflow(o->samples, o->seq_len, &limit))
        return err_set(err, ERR_USAGE,
                       "%s: %lld calibration windows of %lld tokens; use at least 1 of at least 2",
                       parts[0].data->path, (long long)o->samples, (long long)o->seq_len);
    return SQZ_OK;
}

sqz_status calibration_mix(calibration_part *parts, int64_t n, tokenizer *t,
                           const calibration_options *o, calibration *out, sqz_error *err)
{
    calibration c = {0};
    sqz_status st = check_options(parts, o, err);
    if (st != SQZ_OK) return st;
    /* Whole windows of `tokens`; rows are counted one by one, at least two tokens each. */
    int64_t windows = !o->tokens                   ? o->samples
                      : o->packing == PACK_ROW     ? o->tokens / 2 + 1
                      : o->tokens / o->seq_len > 1 ? o->tokens / o->seq_len
                                                   : 1;
    int64_t *share = calloc((size_t)n, sizeof *share);
    draft *drafts = calloc((size_t)n, sizeof *drafts);
    if (!share || !drafts) st = err_set(err, SQZ_E_NOMEM, "no memory for a mix of data sets");
    if (st == SQZ_OK) st = share_out(parts, n, windows, share, err);
    for (int64_t i = 0; i < n && st == SQZ_OK; i++) {
        drafts[i] =
            (draft){.data = parts[i].data, .tokenizer = t, .options = o, .wanted = share[i]};
        if (o->tokens)
            drafts[i].wanted_tokens =
                (int64_t)((double)o->tokens * (double)share[i] / (double)windows) + 1;
        st = make_draft(&drafts[i], err);
        parts[i].windows = drafts[i].windows;
        parts[i].left_out = drafts[i].left_out;
        c.left_out += drafts[i].left_out;
        c.passed_over += drafts[i].passed_over;
    }
    if (st == SQZ_OK) st = join(drafts, n, o->seq_len, o->packing == PACK_ROW, &c, err);
    for (int64_t i = 0; i < n && drafts; i++) draft_free(&drafts[i]);
    free(drafts);
    free(share);
    if (st == SQZ_OK) *out = c;
    return st;
}

sqz_status calibration_make(const dataset *d, tokenizer *t, const calibration_options *o,
                            calibration *out, sqz_error *err)
{
    calibration_part one = {.data = d, .weight = 1};
    return calibration_mix(&one, 1, t, o, out, err);
}

void calibration_free(calibration *c)
{
    if (!c) return;
    free(c->ids);
    free(c->lengths);
    *c = (calibration){0};
}
