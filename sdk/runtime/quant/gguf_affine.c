/* gguf_affine.c - see gguf_affine.h. */
#include "quant/gguf_affine.h"
#include "checkpoint/checkpoint.h"
#include "pool/pool.h"
#include "quant/affine.h"
#include <stdlib.h>
#include <string.h>

enum { GROUP = 32, HALF = 16 };

int gguf_is_affine(const st_tensor *t)
{
    const tensor_source *s = t->source;
    return s && t->rank == 2 && !s->transposed && s->add == 0 && t->shape[0] > 0 &&
           t->shape[1] > 0 && (s->type == GGML_Q4_0 || s->type == GGML_Q8_0);
}

typedef struct repack_job {
    const st_tensor *t;
    sqz_affine *a;
} repack_job;

/* The file has elements i and i + 16 in one byte, a row of codes has neighbours. */
static void repack_q4(const uint8_t *block, uint8_t *codes)
{
    for (int i = 0; i < HALF; i += 2) {
        codes[i / 2] = (uint8_t)((block[i] & 15) | (block[i + 1] & 15) << 4);
        codes[8 + i / 2] = (uint8_t)(block[i] >> 4 | (block[i + 1] >> 4) << 4);
    }
}

static void repack_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const repack_job *j = arg;
    const tensor_source *s = j->t->source;
    const sqz_affine *a = j->a;
    int64_t groups = a->cols / GROUP, bytes = ggml_block_bytes(s->type);
    int64_t group_bytes = GROUP * a->bits / 8;
    uint8_t *codes = (uint8_t *)(uintptr_t)a->codes;
    uint16_t *scales = (uint16_t *)(uintptr_t)a->scales;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const uint8_t *from = s->data + tensor_file_row(j->t, r) * groups * bytes;
        for (int64_t g = 0; g < groups; g++, from += bytes) {
            uint8_t *to = codes + (r * groups + g) * group_bytes;
            memcpy(&scales[r * groups + g], from, 2);
            if (a->bits == 4)
                repack_q4(from + 2, to);
            else
                for (int i = 0; i < GROUP; i++) to[i] = from[2 + i] ^ 0x80; /* + 128 */
        }
    }
}

sqz_status gguf_affine(const st_tensor *t, sqz_affine *out, sqz_error *err)
{
    int bits = t->source->type == GGML_Q4_0 ? 4 : 8;
    int64_t rows = t->shape[0], groups = t->shape[1] / GROUP;
    sqz_affine a = {.struct_size = sizeof a,
                    .bits = bits,
                    .rows = rows,
                    .cols = t->shape[1],
                    .group_size = GROUP,
                    .symmetric = 1};
    a.codes = malloc((size_t)(rows * affine_row_bytes(bits, a.cols)));
    a.scales = malloc((size_t)(rows * groups) * sizeof *a.scales);
    uint8_t *zeros = malloc((size_t)(rows * groups));
    a.zeros = zeros;
    if (!a.codes || !a.scales || !zeros) {
        affine_free(&a);
        return err_set(err, SQZ_E_NOMEM, "no memory for %lld x %lld codes", (long long)rows,
                       (long long)a.cols);
    }
    memset(zeros, 1 << (bits - 1), (size_t)(rows * groups));
    repack_job j = {t, &a};
    pool_for(rows, 16, repack_rows, &j);
    tensor_drop(t);
    sqz_status st = affine_check(&a, err);
    if (st) {
        affine_free(&a);
        if (err) err->code = ERR_MODEL;
        return ERR_MODEL;
    }
    *out = a;
    return SQZ_OK;
}
