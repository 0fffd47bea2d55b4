/* hostile_shape.c - hands over a result of the wrong shape. */
#include "hostile.h"
HOSTILE("hostile_shape")

static sqz_status attack(const sqz_host *host, const sqz_linear *l)
{
    uint8_t code = 1, zero = 1;
    float scale = 1;
    return l->set_affine(l, host, 4, -l->cols, 0, &code, &scale, &zero);
}
