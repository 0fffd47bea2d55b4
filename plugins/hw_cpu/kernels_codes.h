/* kernels_codes.h - the part of kernels_body.h for int-affine weights: their order, panels of their
 * values, and products with few tokens.
 *
 *   sum scale (code - zero) x = sum scale ((code - c) x) - sum scale (zero - c) x,  c = 2^(bits-1)
 *
 * where the second sum needs only the sum of x over each group, and is zero for symmetric grids.
 * Few tokens are limited by memory alone, which asks for three things: few instructions per line,
 * so that the processor sees far ahead; few loads per line, because each takes a place in the load
 * queue (hence two vectors of rows for every broadcast x); and a prefetch ahead. */

/* Far enough for the latency of memory at its full rate, near enough to be there still. */
enum { CODES_AHEAD = 9 << 10 };

/* ---- order --------------------------------------------------------------------------------- */

/* Fields named by `mask` change place with those `by` bits above them. */
VFN uint32_t exchange(uint32_t x, uint32_t mask, int by)
{
    uint32_t t = (x ^ x >> by) & mask;
    return x ^ t ^ t << by;
}

/* A word of a row's bit stream to the order of a cell: even codes below, odd ones above. */
VFN uint32_t cell_word(uint32_t x, const int32_t bits)
{
    if (bits == 2) x = exchange(x, 0x0c0c0c0cu, 2);
    if (bits <= 4) x = exchange(x, 0x00f000f0u, 4);
    return exchange(x, 0x0000ff00u, 8);
}

/* Three words of a bit stream, `step` words apart, to the order of a cell. */
VFN void cell_triple(uint32_t *w, int64_t step)
{
    uint32_t in[3] = {w[0], w[step], w[2 * step]}, out[3] = {0, 0, 0};
    UNROLL
    for (int c = 0; c < 32; c++) {
        const int from = 3 * c / 32, bit = 3 * c % 32, half = c % 2 * 16, p = c / 2;
        uint32_t code = in[from] >> bit;
        if (bit > 29) code |= in[from < 2 ? from + 1 : 2] << (32 - bit);
        code &= 7;
        if (p < 15) {
            out[p / 5] |= code << (half + 3 * (p % 5));
        } else {
            UNROLL
            for (int i = 0; i < 3; i++) out[i] |= (code >> i & 1) << (half + 15);
        }
    }
    UNROLL
    for (int i = 0; i < 3; i++) w[i * step] = out[i];
}

VFN uint32_t word_at(const uint8_t *p)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
#else
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
#endif
}

VFN void reorder(uint32_t *words, int64_t cells, const int32_t bits)
{
    for (int64_t c = 0; c < cells; c++, words += cell_words(bits) * BAND)
        for (int r = 0; r < BAND; r++) {
            if (bits == 3)
                cell_triple(words + r, BAND);
            else
                words[r] = cell_word(words[r], bits);
        }
}

KERNEL_FN void codes_pack(const sqz_affine *w, int64_t first, const codes *to, uint8_t *band)
{
    const int64_t rows = w->rows - first < BAND ? w->rows - first : BAND;
    const int64_t row_words = (w->cols * w->bits + 31) / 32, groups = to->groups;
    const uint8_t *from = w->codes + first * row_words * 4;
    uint16_t *scales = (uint16_t *)(void *)band;
    uint8_t *zeros = band + to->zeros_at;
    uint32_t *words = (uint32_t *)(void *)(band + to->cells_at);
    memset(band, 0, (size_t)to->band_bytes);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < groups; g++) {
            scales[g * BAND + r] = w->scales[(first + r) * groups + g];
            if (!w->symmetric) zeros[g * BAND + r] = w->zeros[(first + r) * groups + g];
        }
    int64_t r = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; r + VW <= rows; r += VW) {
        int64_t k = 0;
        const char *at = (const char *)from + r * row_words * 4;
        for (; k + VW <= row_words; k += VW)
            v_transpose(at + k * 4, row_words * 4, words + k * BAND + r, BAND);
        for (; k < row_words; k++)
            for (int64_t i = 0; i < VW; i++)
                words[k * BAND + r + i] = word_at(from + ((r + i) * row_words + k) * 4);
    }
#endif
    for (; r < rows; r++)
        for (int64_t k = 0; k < row_words; k++)
            words[k * BAND + r] = word_at(from + (r * row_words + k) * 4);
    switch (w->bits) {
    case 2: reorder(words, to->cells, 2); break;
    case 3: reorder(words, to->cells, 3); break;
    case 4: reorder(words, to->cells, 4); break;
    default: reorder(words, to->cells, 8);
    }
}

/* ---- values -------------------------------------------------------------------------------- */

/* The words of VW rows of a cell; for 3 bits w[3] holds its last pair at bits 0 and 16. */
VFN void cell_load(const uint8_t *at, const int32_t bits, vi *w)
{
    w[0] = v_words(at);
    if (bits != 3) return;
    w[1] = v_words(at + 4 * BAND);
    w[2] = v_words(at + 8 * BAND);
    w[3] =
        v_either(v_bits(v_shift(w[0], 15), 0x10001),
                 v_either(v_bits(v_shift(w[1], 14), 0x20002), v_bits(v_shift(w[2], 13), 0x40004)));
}

/* code - c of place j of a cell. */
VFN vf cell_level(const vi *w, const int32_t bits, const int j)
{
    const int p = j / 2, half = j % 2 * 16;
    return bits == 3 ? v_level(w[p / 5], half + 3 * (p % 5), 3)
                     : v_level(w[0], half + bits * p, bits);
}

/* The columns k .. k + n - 1 of VW rows into a panel; `at` is their first cell. */
VFN void panel_lanes(const codes *w, const uint8_t *band, int64_t lane, int64_t k, int64_t n,
                     const int32_t bits, const int32_t how, uint32_t *panel)
{
    const int per = (int)cell_codes(bits);
    const int64_t cell_bytes = cell_words(bits) * BAND * 4;
    const uint8_t *at = band + w->cells_at + k / per * cell_bytes + lane * 4;
    const uint16_t *scales = (const uint16_t *)(const void *)band + lane;
    const vf centre = v_set1((float)(1 << (bits - 1)));
    vf scale = v_zero(), zero = v_zero(), value[2] = {v_zero(), v_zero()};
    int64_t group = -1, left = 0; /* columns left of the group */
    for (int64_t c = 0; c < n; c += per, at += cell_bytes) {
        vi words[4];
        cell_load(at, bits, words);
        UNROLL
        for (int j = 0; j < per; j++, left--) {
            if (c + j >= n) break;
            if (left == 0) {
                group = group < 0 ? (k + c + j) / w->group_size : group + 1;
                left = (group + 1) * w->group_size - (k + c + j);
                scale = v_from_f16(scales + group * BAND);
                if (!w->symmetric)
                    zero = v_sub(v_from_u8(band + w->zeros_at + group * BAND + lane), centre);
            }
            value[j % 2] = v_mul(scale, v_sub(cell_level(words, bits, j), zero));
            if (how == COPY_F32) v_store((float *)panel + (c + j) * PANEL, value[j % 2]);
            if (how == COPY_ROUNDED)
                v_store((float *)panel + (c + j) * PANEL, v_round_bf16(value[j % 2]));
#ifdef KERNEL_PAIRS
            if (how == COPY_PAIRS && j % 2)
                v_store_pairs(panel + (c + j) / 2 * PANEL, value[0], value[1]);
#endif
        }
    }
#ifdef KERNEL_PAIRS
    if (how == COPY_PAIRS && n % 2) v_store_pairs(panel + n / 2 * PANEL, value[0], v_zero());
#endif
}

VFN void panel_as(const codes *w, int64_t row, int64_t rows, int64_t k, int64_t n,
                  const int32_t bits, const int32_t how, uint32_t *panel)
{
    const uint8_t *bands = w->bands + row / BAND * w->band_bytes;
    for (int64_t r = 0; r < rows; r += VW)
        panel_lanes(w, bands + r / BAND * w->band_bytes, r % BAND, k, n, bits, how, panel + r);
}

#define CODES_PANEL(bits)                                                                          \
    KERNEL_FN void panel##bits(const codes *w, int64_t row, int64_t rows, int64_t k, int64_t n,    \
                               int32_t how, uint32_t *panel)                                       \
    {                                                                                              \
        if (how == COPY_F32)                                                                       \
            panel_as(w, row, rows, k, n, bits, COPY_F32, panel);                                   \
        else if (how == COPY_ROUNDED)                                                              \
            panel_as(w, row, rows, k, n, bits, COPY_ROUNDED, panel);                               \
        else                                                                                       \
            panel_as(w, row, rows, k, n, bits, COPY_PAIRS, panel);                                 \
    }
CODES_PANEL(2)
CODES_PANEL(3)
CODES_PANEL(4)
CODES_PANEL(8)

KERNEL_FN void codes_panel(const codes *w, int64_t row, int64_t rows, int64_t k, int64_t n,
                           int32_t how, uint32_t *panel)
{
    switch (w->bits) {
    case 2: panel2(w, row, rows, k, n, how, panel); break;
    case 3: panel3(w, row, rows, k, n, how, panel); break;
    case 4: panel4(w, row, rows, k, n, how, panel); break;
    default: panel8(w, row, rows, k, n, how, panel);
    }
}

/* ---- few tokens ---------------------------------------------------------------------------- */

/* One of the bands. */
typedef struct band_at {
    const uint8_t *at, *next; /* next: what is read after it */
    int64_t row;
} band_at;

VFN band_at band_of(const codes_dot *d, int64_t i)
{
    const uint8_t *at = d->w->bands + (d->first + i) * d->w->band_bytes;
    return (band_at){at, i + 1 < d->bands ? at + d->w->band_bytes : d->next, (d->first + i) * BAND};
}

/* What to fetch while the place `offset` of the band is read: the band goes on, or the next one
 * begins. */
VFN const uint8_t *ahead_of(const codes_dot *d, const band_at *band, int64_t offset)
{
    const int64_t over = offset + CODES_AHEAD - d->w->band_bytes;
    return over < 0 ? band->at + offset + CODES_AHEAD : band->next + over;
}

/* The same for what stands before the cells: it is not walked through. */
VFN void fetch_head(const codes_dot *d, const band_at *band)
{
    for (int64_t i = 0; i < d->w->cells_at; i += 64) fetch(ahead_of(d, band, i), d->once);
}

/* VW rows from `row` into y. */
VFN void put_rows(const codes_dot *d, int64_t row, const int nt, const vf *total)
{
    const int64_t rows = d->w->rows, n = rows - row < VW ? rows - row : VW;
    if (n <= 0) return;
    UNROLL
    for (int t = 0; t < nt; t++) {
        float *y = d->y + t * rows + row;
        vf v = d->bias ? v_add(total[t], v_load_n(d->bias + row, n)) : total[t];
        v_store_n(y, d->accumulate ? v_add(v_load_n(y, n), v) : v, n);
    }
}

/* Scales of VW rows of a group into the totals. */
VFN void add_group(const codes_dot *d, const uint8_t *band, int64_t g, int64_t lane,
                   const int32_t bits, const int nt, const vf *sum, vf *total)
{
    const vf scale = v_from_f16((const uint16_t *)(const void *)band + g * BAND + lane);
    UNROLL
    for (int t = 0; t < nt; t++) total[t] = v_fma(scale, sum[t], total[t]);
    if (d->w->symmetric) return;
    vf zero = v_from_u8(band + d->w->zeros_at + g * BAND + lane);
    vf by = v_mul(scale, v_sub(v_set1((float)(1 << (bits - 1))), zero));
    UNROLL
    for (int t = 0; t < nt; t++)
        total[t] = v_fma(by, v_set1(d->sum[t * d->w->groups + g]), total[t]);
}

/* `ns` sums for each of nt tokens and two vectors of rows: about 8 run at once, which hides the
 * latency of each. */
enum { MOST_SUMS = 4 };

VFN void fold(vf sum[][MOST_SUMS], const int nt, const int ns, vf *out)
{
    UNROLL
    for (int t = 0; t < nt; t++)
        out[t] = ns == 4   ? v_add(v_add(sum[t][0], sum[t][1]), v_add(sum[t][2], sum[t][3]))
                 : ns == 2 ? v_add(sum[t][0], sum[t][1])
                           : sum[t][0];
}

VFN void codes_rows(const codes_dot *d, const band_at *band, int64_t lane, const int32_t bits,
                    const int nt)
{
    const int ns = nt == 1 ? 4 : nt == 2 ? 2 : 1, per = (int)cell_codes(bits);
    const int64_t cell_bytes = cell_words(bits) * BAND * 4;
    const codes *w = d->w;
    const float *x = d->x;
    vf total[2][DOT_TOKENS];
    UNROLL
    for (int t = 0; t < nt; t++) total[0][t] = total[1][t] = v_zero();
    fetch_head(d, band);
    for (int64_t g = 0; g < w->groups; g++) {
        vf sum[2][DOT_TOKENS][MOST_SUMS], one[DOT_TOKENS];
        const uint8_t *at = band->at + w->cells_at + w->first[g] * cell_bytes + lane * 4;
        const uint8_t *ahead = ahead_of(d, band, at - band->at);
        UNROLL
        for (int t = 0; t < nt; t++) UNROLL
        for (int s = 0; s < ns; s++) sum[0][t][s] = sum[1][t][s] = v_zero();
        for (int64_t c = w->first[g]; c < w->end[g]; c++, at += cell_bytes, ahead += cell_bytes) {
            vi a[2][4];
            cell_load(at, bits, a[0]);
            cell_load(at + 4 * VW, bits, a[1]);
            UNROLL
            for (int64_t i = 0; i < cell_words(bits); i++) fetch(ahead + i * 4 * BAND, d->once);
            UNROLL
            for (int j = 0; j < per; j++) {
                vf low = cell_level(a[0], bits, j), high = cell_level(a[1], bits, j);
                UNROLL
                for (int t = 0; t < nt; t++) {
                    vf each = v_set1(x[t * d->ldx + j]);
                    sum[0][t][j % ns] = v_fma(low, each, sum[0][t][j % ns]);
                    sum[1][t][j % ns] = v_fma(high, each, sum[1][t][j % ns]);
                }
            }
            x += per;
        }
        fold(sum[0], nt, ns, one);
        add_group(d, band->at, g, lane, bits, nt, one, total[0]);
        fold(sum[1], nt, ns, one);
        add_group(d, band->at, g, lane + VW, bits, nt, one, total[1]);
    }
    put_rows(d, band->row + lane, nt, total[0]);
    put_rows(d, band->row + lane + VW, nt, total[1]);
}

#if DOT_TOKENS == 8
#define CODES_MORE(one, bits)                                                                      \
    case 4: one(d, bits, 4); break;                                                                \
    case 5: one(d, bits, 5); break;                                                                \
    case 6: one(d, bits, 6); break;                                                                \
    case 7:                                                                                        \
        one(d, bits, 7);                                                                           \
        break;
#else
#define CODES_MORE(one, bits)
#endif
#define CODES_TOKENS(one, bits)                                                                    \
    switch (d->tokens) {                                                                           \
    case 1: one(d, bits, 1); break;                                                                \
    case 2: one(d, bits, 2); break;                                                                \
    case 3:                                                                                        \
        one(d, bits, 3);                                                                           \
        break;                                                                                     \
        CODES_MORE(one, bits)                                                                      \
    default: one(d, bits, DOT_TOKENS);                                                             \
    }

VFN void codes_bands(const codes_dot *d, const int32_t bits, const int nt)
{
    for (int64_t i = 0; i < d->bands; i++) {
        const band_at band = band_of(d, i);
        for (int64_t lane = 0; lane < BAND; lane += 2 * VW) codes_rows(d, &band, lane, bits, nt);
    }
}

#define DOT_CODES(bits)                                                                            \
    KERNEL_FN void codes_dot##bits(const codes_dot *d)                                             \
    {                                                                                              \
        CODES_TOKENS(codes_bands, bits)                                                            \
    }
DOT_CODES(2)
DOT_CODES(3)
DOT_CODES(4)
DOT_CODES(8)

KERNEL_FN void dot_codes(const codes_dot *d)
{
    switch (d->w->bits) {
    case 2: codes_dot2(d); break;
    case 3: codes_dot3(d); break;
    case 4: codes_dot4(d); break;
    default: codes_dot8(d);
    }
}

#ifdef KERNEL_PAIRS
/* The same for activations rounded to bfloat16: code - c is exact in bfloat16, so one shift, one
 * look-up and one vdpbf16ps do 32 products.  Codes of 8 bits take two look-ups, one of the lower
 * half and one of 16 (upper half) - c. */

/* by * (code - from), exact in bfloat16, for codes of `bits`, repeated up to 32 entries. */
VFN vi half_table(const int32_t bits, float by, float from)
{
    const vi lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    vf code = _mm512_cvtepi32_ps(v_bits(lane, (1 << bits) - 1));
    vf value = v_mul(v_set1(by), v_sub(code, v_set1(from)));
    return _mm512_broadcast_i64x4(
        _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(value), 16)));
}

/* Pair p of a cell, or for 8 bits half p % 2 of pair p / 2. */
VFN vf cell_pair(const vi *w, const int32_t bits, const int p, vi low, vi high)
{
    const int at = bits == 3 ? 3 * (p % 5) : (bits == 8 ? 4 : bits) * p;
    const vi words = bits == 3 ? w[p / 5] : w[0];
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(
        at ? _mm512_srli_epi16(words, (unsigned)at) : words, bits == 8 && p % 2 ? high : low));
}

/* bfloat16 x as lanes of one pair. */
VFN vf v_set1_pair(const uint16_t *x)
{
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return _mm512_castsi512_ps(_mm512_set1_epi32(pair));
}

VFN void pairs_band(const codes_dot *d, const band_at *band, vi low, vi high, const int32_t bits,
                    const int nt)
{
    const int ns = nt == 1 ? 4 : nt == 2 ? 2 : 1, per = (int)cell_codes(bits);
    const int halves = bits == 8 ? 2 : 1; /* look-ups of a pair */
    const int64_t cell_bytes = cell_words(bits) * BAND * 4;
    const codes *w = d->w;
    const uint16_t *x = d->x;
    vf total[2][DOT_TOKENS];
    UNROLL
    for (int t = 0; t < nt; t++) total[0][t] = total[1][t] = v_zero();
    fetch_head(d, band);
    for (int64_t g = 0; g < w->groups; g++) {
        vf sum[2][DOT_TOKENS][MOST_SUMS], one[DOT_TOKENS];
        const uint8_t *at = band->at + w->cells_at + w->first[g] * cell_bytes;
        const uint8_t *ahead = ahead_of(d, band, at - band->at);
        UNROLL
        for (int t = 0; t < nt; t++) UNROLL
        for (int s = 0; s < ns; s++) sum[0][t][s] = sum[1][t][s] = v_zero();
        for (int64_t c = w->first[g]; c < w->end[g]; c++, at += cell_bytes, ahead += cell_bytes) {
            vi a[2][4];
            cell_load(at, bits, a[0]);
            cell_load(at + 4 * VW, bits, a[1]);
            UNROLL
            for (int i = 0; i < cell_words(bits); i++) {
                a[0][i] = v_keep(a[0][i]);
                a[1][i] = v_keep(a[1][i]);
            }
            UNROLL
            for (int64_t i = 0; i < 2 * cell_words(bits); i++) fetch(ahead + i * 64, d->once);
            UNROLL
            for (int p = 0; p < per / 2 * halves; p++) {
                vf v = cell_pair(a[0], bits, p, low, high), u = cell_pair(a[1], bits, p, low, high);
                UNROLL
                for (int t = 0; t < nt; t++) {
                    vf each = v_set1_pair(x + t * d->ldx + p / halves * 2);
                    sum[0][t][p % ns] = v_pairs(v, each, sum[0][t][p % ns]);
                    sum[1][t][p % ns] = v_pairs(u, each, sum[1][t][p % ns]);
                }
            }
            x += per;
        }
        fold(sum[0], nt, ns, one);
        add_group(d, band->at, g, 0, bits, nt, one, total[0]);
        fold(sum[1], nt, ns, one);
        add_group(d, band->at, g, VW, bits, nt, one, total[1]);
    }
    put_rows(d, band->row, nt, total[0]);
    put_rows(d, band->row + VW, nt, total[1]);
}

VFN void pairs_bands(const codes_dot *d, const int32_t bits, const int nt)
{
    const vi low = half_table(bits == 8 ? 4 : bits, 1, bits == 8 ? 0 : (float)(1 << (bits - 1)));
    const vi high = bits == 8 ? half_table(4, 16, 8) : low;
    for (int64_t i = 0; i < d->bands; i++) {
        const band_at band = band_of(d, i);
        pairs_band(d, &band, low, high, bits, nt);
    }
}

#define DOT_PAIRS(bits)                                                                            \
    KERNEL_FN void codes_pairs##bits(const codes_dot *d)                                           \
    {                                                                                              \
        CODES_TOKENS(pairs_bands, bits)                                                            \
    }
DOT_PAIRS(2)
DOT_PAIRS(3)
DOT_PAIRS(4)
DOT_PAIRS(8)

KERNEL_FN void dot_codes_pairs(const codes_dot *d)
{
    switch (d->w->bits) {
    case 2: codes_pairs2(d); break;
    case 3: codes_pairs3(d); break;
    case 4: codes_pairs4(d); break;
    default: codes_pairs8(d);
    }
}
#endif
