/* vec_generic.h - the vector words of kernels_body.h in the compiler's own 4-lane vectors: runs on
 * any machine, and is the floor the other sets are compared with. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define VW 4 /* lanes */
#define NV 2 /* vectors across a product tile */
#define DOT_TOKENS 4
#define VFN static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16)));

VFN vf v_zero(void)
{
    return (vf){0, 0, 0, 0};
}
VFN vf v_set1(float x)
{
    return (vf){x, x, x, x};
}
VFN vf v_load(const float *p)
{
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
VFN vf v_load_n(const float *p, int64_t n)
{
    float part[VW] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return v_load(part);
}
VFN void v_store(float *p, vf x)
{
    memcpy(p, &x, sizeof x);
}
VFN void v_store_n(float *p, vf x, int64_t n)
{
    memcpy(p, &x, (size_t)n * sizeof *p);
}
VFN vf v_fma(vf a, vf b, vf c)
{
    return a * b + c;
}
VFN vf v_add(vf a, vf b)
{
    return a + b;
}
VFN vf v_sub(vf a, vf b)
{
    return a - b;
}
VFN vf v_mul(vf a, vf b)
{
    return a * b;
}
VFN vf v_div(vf a, vf b)
{
    return a / b;
}
/* b where the comparison fails, so that a NaN in b passes through, as on x86 */
VFN vf v_max(vf a, vf b)
{
    vi pick = a > b;
    return (vf)(((vi)a & pick) | ((vi)b & ~pick));
}
VFN vf v_min(vf a, vf b)
{
    vi pick = a < b;
    return (vf)(((vi)a & pick) | ((vi)b & ~pick));
}
VFN float v_sum(vf x)
{
    return (x[0] + x[2]) + (x[1] + x[3]);
}
VFN float v_hmax(vf x)
{
    float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
    return a > b ? a : b;
}
VFN vf v_rint(vf x)
{
    return (vf){rintf(x[0]), rintf(x[1]), rintf(x[2]), rintf(x[3])};
}
/* x * 2^n for integral n in -252..254, in two steps so that subnormals come out right */
VFN vf v_scale2(vf x, vf n)
{
    vi whole = {(int32_t)n[0], (int32_t)n[1], (int32_t)n[2], (int32_t)n[3]};
    vi half = whole >> 1, rest = whole - half;
    return x * (vf)((half + 127) << 23) * (vf)((rest + 127) << 23);
}
VFN vf v_from_bf16_n(const uint16_t *p, int64_t n)
{
    vu x = {0, 0, 0, 0};
    for (int64_t i = 0; i < n; i++) x[i] = (uint32_t)p[i] << 16;
    return (vf)x;
}
VFN vf v_from_bf16(const uint16_t *p)
{
    return v_from_bf16_n(p, VW);
}
/* IEEE half: the exponent is rebased by a multiplication, which also handles subnormals. */
VFN vf v_from_f16_n(const uint16_t *p, int64_t n)
{
    vf out = v_zero();
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (p[i] & 0x7fffu) << 13, top;
        float x;
        memcpy(&x, &bits, sizeof x);
        x *= 0x1p112f;
        if ((p[i] & 0x7c00) == 0x7c00) { /* infinity or NaN */
            top = 0x7f800000u | bits;
            memcpy(&x, &top, sizeof x);
        }
        out[i] = p[i] & 0x8000 ? -x : x;
    }
    return out;
}
VFN vf v_from_f16(const uint16_t *p)
{
    return v_from_f16_n(p, VW);
}
VFN vu v_bf16_bits(vf x)
{
    vu bits = (vu)x, up = bits + 0x7fffu + ((bits >> 16) & 1u);
    vu nan = (vu)(x != x);
    return (up & ~nan) | ((bits | 0x400000u) & nan);
}
VFN vf v_round_bf16(vf x)
{
    return (vf)(v_bf16_bits(x) & 0xffff0000u);
}
VFN void v_to_bf16(uint16_t *p, vf x)
{
    vu bits = v_bf16_bits(x) >> 16;
    for (int i = 0; i < VW; i++) p[i] = (uint16_t)bits[i];
}
VFN vf v_from_u8(const uint8_t *p)
{
    return (vf){p[0], p[1], p[2], p[3]};
}

/* VW words, and the codes in them. */
VFN vi v_words(const void *p)
{
    vi x;
    memcpy(&x, p, sizeof x);
    return x;
}
VFN vi v_shift(vi x, int by)
{
    return (vi)((vu)x >> (uint32_t)by);
}
VFN vi v_bits(vi x, int mask)
{
    return x & mask;
}
VFN vi v_either(vi a, vi b)
{
    return a | b;
}
/* code - 2^(bits-1) for the codes at bit `at` */
VFN vf v_level(vi x, int at, int bits)
{
    vi code = v_bits(v_shift(x, at), (1 << bits) - 1) - (1 << (bits - 1));
    return (vf){(float)code[0], (float)code[1], (float)code[2], (float)code[3]};
}

/* Transposes 4 rows of 4 32-bit units; row i starts at src + i * ld bytes. */
VFN void v_transpose(const char *src, int64_t ld, uint32_t *dst, int64_t ldd)
{
    for (int i = 0; i < VW; i++)
        for (int j = 0; j < VW; j++) memcpy(dst + j * ldd + i, src + i * ld + 4 * j, 4);
}
