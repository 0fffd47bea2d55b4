/* gguf_blocks.c - the packed tensor types of GGUF: sizes, and values of blocks.
 *
 * The order of the float32 operations is that of the reference decoders, so that values are equal
 * bit for bit (the build never contracts a product and a sum).  Layouts: one function per type,
 * each on one block. */
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "pool/pool.h"
#include <string.h>

enum { BIG = 256, SMALL = 32 }; /* elements of a block */

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return f16_to_f32(h);
}

static void decode_q4_0(const uint8_t *b, float *y)
{
    float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[2 + i] & 15) - 8);
        y[16 + i] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

static void decode_q4_1(const uint8_t *b, float *y)
{
    float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(b[4 + i] & 15) + m;
        y[16 + i] = d * (float)(b[4 + i] >> 4) + m;
    }
}

/* The fifth bits, element i in bit i. */
static uint32_t high_bits(const uint8_t *p)
{
    uint32_t h;
    memcpy(&h, p, sizeof h);
    return h;
}

static int fifth(uint32_t high, int i)
{
    return (int)(high >> i & 1) << 4;
}

static void decode_q5_0(const uint8_t *b, float *y)
{
    float d = half_at(b);
    uint32_t high = high_bits(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(((b[6 + i] & 15) | fifth(high, i)) - 16);
        y[16 + i] = d * (float)((b[6 + i] >> 4 | fifth(high, 16 + i)) - 16);
    }
}

static void decode_q5_1(const uint8_t *b, float *y)
{
    float d = half_at(b), m = half_at(b + 2);
    uint32_t high = high_bits(b + 4);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[8 + i] & 15) | fifth(high, i)) + m;
        y[16 + i] = d * (float)(b[8 + i] >> 4 | fifth(high, 16 + i)) + m;
    }
}

static void decode_q8_0(const uint8_t *b, float *y)
{
    float d = half_at(b);
    for (int i = 0; i < SMALL; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

static void decode_iq4_nl(const uint8_t *b, float *y)
{
    static const float grid[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};
    float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * grid[b[2 + i] & 15];
        y[16 + i] = d * grid[b[2 + i] >> 4];
    }
}

static void decode_q2_k(const uint8_t *b, float *y)
{
    const uint8_t *scales = b, *qs = b + 16;
    float d = half_at(b + 80), dmin = half_at(b + 82);
    for (int i = 0; i < BIG; i++) {
        int s = scales[i / 16], q = qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        float scale = d * (float)(s & 15), min = dmin * (float)(s >> 4);
        y[i] = scale * (float)q - min;
    }
}

static void decode_q3_k(const uint8_t *b, float *y)
{
    const uint8_t *mask = b, *qs = b + 32, *scales = b + 96;
    float d = half_at(b + 108), scale[16];
    for (int g = 0; g < 16; g++) {
        int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4;
        int high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
        scale[g] = d * (float)((high << 4 | low) - 32);
    }
    for (int i = 0; i < BIG; i++) {
        int q = qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        if (!(mask[i % 32] >> (i / 32) & 1)) q -= 4;
        y[i] = scale[i / 16] * (float)q;
    }
}

/* Scales and minima of the eight sub-blocks of Q4_K and Q5_K, six bits each. */
static void scale_and_min(const uint8_t *s, float d, float dmin, float scale[8], float min[8])
{
    for (int k = 0; k < 8; k++) {
        int sc = k < 4 ? s[k] & 63 : (s[k + 4] & 15) | (s[k - 4] >> 6) << 4;
        int m = k < 4 ? s[k + 4] & 63 : s[k + 4] >> 4 | (s[k] >> 6) << 4;
        scale[k] = d * (float)sc;
        min[k] = dmin * (float)m;
    }
}

static void decode_q4_k(const uint8_t *b, float *y)
{
    const uint8_t *qs = b + 16;
    float scale[8], min[8];
    scale_and_min(b + 4, half_at(b), half_at(b + 2), scale, min);
    for (int i = 0; i < BIG; i++) {
        uint8_t byte = qs[i / 64 * 32 + i % 32];
        y[i] = scale[i / 32] * (float)(i % 64 < 32 ? byte & 15 : byte >> 4) - min[i / 32];
    }
}

static void decode_q5_k(const uint8_t *b, float *y)
{
    const uint8_t *high = b + 16, *qs = b + 48;
    float scale[8], min[8];
    scale_and_min(b + 4, half_at(b), half_at(b + 2), scale, min);
    for (int i = 0; i < BIG; i++) {
        uint8_t byte = qs[i / 64 * 32 + i % 32];
        int q = (i % 64 < 32 ? byte & 15 : byte >> 4) | (high[i % 32] >> (i / 32) & 1) << 4;
        y[i] = scale[i / 32] * (float)q - min[i / 32];
    }
}

static void decode_q6_k(const uint8_t *b, float *y)
{
    const uint8_t *low = b, *high = b + 128, *scales = b + 192;
    float d = half_at(b + 208), scale[16];
    for (int g = 0; g < 16; g++) scale[g] = d * (float)(int8_t)scales[g];
    for (int i = 0; i < BIG; i++) {
        int half = i / 128, j = i % 128 / 32, l = i % 32;
        uint8_t byte = low[64 * half + l + 32 * (j & 1)];
        int q = (j < 2 ? byte & 15 : byte >> 4) | (high[32 * half + l] >> (2 * j) & 3) << 4;
        y[i] = scale[i / 16] * (float)(q - 32);
    }
}

static const struct {
    int32_t type;
    const char *name;
    int64_t elements, bytes;
    void (*decode)(const uint8_t *, float *); /* NULL: plain, or size only */
} types[] = {
    {GGML_F32, "F32", 1, 4, NULL},
    {GGML_F16, "F16", 1, 2, NULL},
    {GGML_BF16, "BF16", 1, 2, NULL},
    {GGML_Q4_0, "Q4_0", SMALL, 18, decode_q4_0},
    {GGML_Q4_1, "Q4_1", SMALL, 20, decode_q4_1},
    {GGML_Q5_0, "Q5_0", SMALL, 22, decode_q5_0},
    {GGML_Q5_1, "Q5_1", SMALL, 24, decode_q5_1},
    {GGML_Q8_0, "Q8_0", SMALL, 34, decode_q8_0},
    {GGML_Q2_K, "Q2_K", BIG, 84, decode_q2_k},
    {GGML_Q3_K, "Q3_K", BIG, 110, decode_q3_k},
    {GGML_Q4_K, "Q4_K", BIG, 144, decode_q4_k},
    {GGML_Q5_K, "Q5_K", BIG, 176, decode_q5_k},
    {GGML_Q6_K, "Q6_K", BIG, 210, decode_q6_k},
    {GGML_IQ4_NL, "IQ4_NL", SMALL, 18, decode_iq4_nl},
    {9, "Q8_1", SMALL, 36, NULL},
    {15, "Q8_K", BIG, 292, NULL},
    {16, "IQ2_XXS", BIG, 66, NULL},
    {17, "IQ2_XS", BIG, 74, NULL},
    {18, "IQ3_XXS", BIG, 98, NULL},
    {19, "IQ1_S", BIG, 50, NULL},
    {21, "IQ3_S", BIG, 110, NULL},
    {22, "IQ2_S", BIG, 82, NULL},
    {23, "IQ4_XS", BIG, 136, NULL},
    {24, "I8", 1, 1, NULL},
    {25, "I16", 1, 2, NULL},
    {26, "I32", 1, 4, NULL},
    {27, "I64", 1, 8, NULL},
    {28, "F64", 1, 8, NULL},
    {29, "IQ1_M", BIG, 56, NULL},
    {34, "TQ1_0", BIG, 54, NULL},
    {35, "TQ2_0", BIG, 66, NULL},
    {39, "MXFP4", SMALL, 17, NULL},
    {40, "NVFP4", 64, 36, NULL},
};

static int row_of(int32_t type)
{
    for (int i = 0; i < (int)(sizeof types / sizeof *types); i++)
        if (types[i].type == type) return i;
    return -1;
}

const char *ggml_type_name(int32_t type)
{
    int i = row_of(type);
    return i < 0 ? "unknown" : types[i].name;
}

int64_t ggml_block_elements(int32_t type)
{
    int i = row_of(type);
    return i < 0 ? 0 : types[i].elements;
}

int64_t ggml_block_bytes(int32_t type)
{
    int i = row_of(type);
    return i < 0 ? 0 : types[i].bytes;
}

int ggml_decodes(int32_t type)
{
    int i = row_of(type);
    return i >= 0 && (types[i].decode || type == GGML_F32 || type == GGML_F16 || type == GGML_BF16);
}

typedef struct decode_job {
    int row;
    const uint8_t *blocks;
    int64_t elements;
    float *out;
} decode_job;

enum { CHUNK = 1 << 14 }; /* elements; a multiple of every block */

static void decode_range(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const decode_job *j = arg;
    int64_t per = types[j->row].elements, bytes = types[j->row].bytes;
    int64_t first = begin * CHUNK / per, last = end * CHUNK / per, all = j->elements / per;
    (void)thread;
    if (last > all) last = all;
    if (types[j->row].decode) {
        for (int64_t b = first; b < last; b++)
            types[j->row].decode(j->blocks + b * bytes, j->out + b * per);
        return;
    }
    int32_t dtype = types[j->row].type == GGML_F32   ? SQZ_F32
                    : types[j->row].type == GGML_F16 ? SQZ_F16
                                                     : SQZ_BF16;
    (void)to_f32(dtype, j->blocks + first * bytes, last - first, j->out + first);
}

void ggml_decode(int32_t type, const uint8_t *blocks, int64_t elements, float *out)
{
    decode_job j = {row_of(type), blocks, elements, out};
    if (elements <= CHUNK)
        decode_range(&j, 0, 1, 0);
    else
        pool_for((elements + CHUNK - 1) / CHUNK, 1, decode_range, &j);
}
