/* hostile_codes.c - hands over codes beyond the bits that it announces. */
#include "hostile.h"
HOSTILE("hostile_codes")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    size_t n = (size_t)(l->rows * l->cols);
    uint8_t *codes = malloc(n);
    uint8_t *zeros = malloc(n);
    float *scales = malloc(n * sizeof *scales);
    if (!codes || !zeros || !scales) abort();
    memset(codes, 255, n);
    memset(zeros, 8, n);
    for (size_t i = 0; i < n; i++) scales[i] = 1;
    sqz_status st = l->set_affine(l, host, 4, 32, 0, codes, scales, zeros);
    free(codes);
    free(zeros);
    free(scales);
    return st;
}
