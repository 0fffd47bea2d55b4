/* codes.c - int-affine weights in the order of kernels.h (struct codes): packing, and x to match.
 *
 * Packing copies, so that the caller's arrays may go; the copy is shared by decode, which reads it
 * band by band, and prefill, which makes panels of it. */
#include "device.h"

#include <stdlib.h>
#include <string.h>

static void place_groups(codes *c)
{
    int64_t per = cell_codes(c->bits);
    c->x_cols = 0;
    c->straight = 1;
    for (int64_t g = 0; g < c->groups; g++) {
        int64_t stop = least((g + 1) * c->group_size, c->cols);
        c->first[g] = (int32_t)(g * c->group_size / per);
        c->end[g] = (int32_t)((stop + per - 1) / per);
        if (c->first[g] * per != c->x_cols) c->straight = 0;
        c->x_cols += (c->end[g] - c->first[g]) * per;
    }
}

static sqz_status place(device *d, const sqz_affine *a, codes *c)
{
    int64_t per = cell_codes(a->bits);
    *c = (codes){.bits = a->bits,
                 .symmetric = a->symmetric,
                 .rows = a->rows,
                 .cols = a->cols,
                 .group_size = least(a->group_size, a->cols),
                 .groups = (a->cols + a->group_size - 1) / a->group_size,
                 .cells = (a->cols + per - 1) / per};
    c->zeros_at = c->groups * BAND * 2;
    c->cells_at = c->zeros_at + (a->symmetric ? 0 : c->groups * BAND);
    c->cells_at = round_up(c->cells_at, 64);
    c->band_bytes = c->cells_at + c->cells * cell_words(a->bits) * BAND * 4;
    c->first = malloc((size_t)c->groups * 2 * sizeof *c->first);
    if (!c->first) return device_fail(d, SQZ_E_NOMEM, "hw_cpu: no memory for a packed weight");
    c->end = c->first + c->groups;
    place_groups(c);
    return SQZ_OK;
}

typedef struct pack_job {
    const kernels *k;
    const sqz_affine *from;
    const codes *to;
} pack_job;

static void pack_bands(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const pack_job *j = arg;
    for (int64_t b = begin; b < end; b++)
        j->k->codes_pack(j->from, b * BAND, j->to, j->to->bands + b * j->to->band_bytes);
}

sqz_status codes_new(device *d, const sqz_affine *a, codes *c)
{
    sqz_status st = place(d, a, c);
    if (st != SQZ_OK) return st;
    int64_t bands = (c->rows + BAND - 1) / BAND;
    c->bands = store_take(d, bands * c->band_bytes, &c->store);
    if (!c->bands) return SQZ_E_NOMEM;
    pack_job job = {d->k, a, c};
    device_for(d, bands, 1 + (64 << 10) / c->band_bytes, pack_bands, &job);
    return SQZ_OK;
}

void codes_free(device *d, codes *c)
{
    if (c->bands) store_give(d, c->store);
    free(c->first);
    *c = (codes){0};
}

/* One row of x, `size` bytes an element, in the order in which the cells are read. */
static void arrange_row(const codes *c, const char *x, int64_t size, char *to)
{
    int64_t per = cell_codes(c->bits);
    if (c->straight) {
        memcpy(to, x, (size_t)(c->cols * size));
        memset(to + c->cols * size, 0, (size_t)((c->x_cols - c->cols) * size));
        return;
    }
    memset(to, 0, (size_t)(c->x_cols * size));
    for (int64_t g = 0; g < c->groups; g++) {
        int64_t start = g * c->group_size, stop = least(start + c->group_size, c->cols);
        memcpy(to + (start - c->first[g] * per) * size, x + start * size,
               (size_t)((stop - start) * size));
        to += (c->end[g] - c->first[g]) * per * size;
    }
}

void codes_arrange(const codes *c, int64_t tokens, const void *x, int64_t size, void *to)
{
    for (int64_t t = 0; t < tokens; t++)
        arrange_row(c, (const char *)x + t * c->cols * size, size,
                    (char *)to + t * c->x_cols * size);
}

void codes_sums(const codes *c, int64_t tokens, const float *x, float *sum)
{
    enum { LANES = 8 };
    for (int64_t t = 0; t < tokens; t++, x += c->cols)
        for (int64_t g = 0; g < c->groups; g++) {
            int64_t i = g * c->group_size, stop = least(i + c->group_size, c->cols);
            float part[LANES] = {0}, total = 0;
            for (; i + LANES <= stop; i += LANES)
                for (int k = 0; k < LANES; k++) part[k] += x[i + k];
            for (; i < stop; i++) total += x[i];
            for (int k = 0; k < LANES; k++) total += part[k];
            *sum++ = total;
        }
}
