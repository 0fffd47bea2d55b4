/* int-affine/1: bit layout against the published 3-bit words, round trips at odd shapes, refusals,
 * and the object file with untrusted content. */
#include "checkpoint/checkpoint.h"
#include "quant/affine.h"
#include "scratch.h"
#include <math.h>
#include <string.h>

static uint32_t random_state = 1;

static uint32_t draw(void)
{
    return (random_state = random_state * 1664525u + 1013904223u) >> 8;
}

/* Codes k mod 8 for k = 0..31 at 3 bits are these three words in GPTQ files too. */
START_TEST(three_bit_words)
{
    static const uint32_t words[3] = {0x88FAC688, 0xC688FAC6, 0xFAC688FA};
    uint8_t codes[32], zero = 4, back[32];
    float scale = 1;
    sqz_affine a;
    for (int k = 0; k < 32; k++) codes[k] = (uint8_t)(k % 8);
    ck_assert_int_eq(affine_pack(3, 1, 32, 32, 1, codes, &scale, &zero, &a, NULL), SQZ_OK);
    ck_assert_int_eq(affine_row_bytes(3, 32), 12);
    for (int i = 0; i < 12; i++) ck_assert_uint_eq(a.codes[i], words[i / 4] >> 8 * (i % 4) & 255);
    affine_unpack_row(&a, 0, back);
    ck_assert_mem_eq(back, codes, 32);
    affine_free(&a);
}
END_TEST

START_TEST(four_bit_word)
{
    static const uint8_t codes[8] = {0, 1, 2, 3, 4, 5, 6, 7}, bytes[4] = {0x10, 0x32, 0x54, 0x76};
    uint8_t zero = 8;
    float scale = 1;
    sqz_affine a;
    ck_assert_int_eq(affine_pack(4, 1, 8, 8, 1, codes, &scale, &zero, &a, NULL), SQZ_OK);
    ck_assert_mem_eq(a.codes, bytes, 4);
    affine_free(&a);
}
END_TEST

typedef struct grid {
    int bits;
    int64_t rows, cols, group, groups;
    uint8_t *codes, *zeros;
    float *scales;
} grid;

static grid make_grid(int bits, int64_t rows, int64_t cols, int64_t group, int symmetric)
{
    grid g = {bits, rows, cols, group, (cols + group - 1) / group, NULL, NULL, NULL};
    g.codes = malloc((size_t)(rows * cols));
    g.zeros = malloc((size_t)(rows * g.groups));
    g.scales = malloc((size_t)(rows * g.groups) * sizeof *g.scales);
    for (int64_t i = 0; i < rows * cols; i++) g.codes[i] = (uint8_t)(draw() % (1u << bits));
    for (int64_t i = 0; i < rows * g.groups; i++) {
        g.zeros[i] = (uint8_t)(symmetric ? 1u << (bits - 1) : 1 + draw() % ((1u << bits) - 1));
        g.scales[i] = (float)(int)(draw() % 2048 + 1) * 0x1p-14f;
    }
    return g;
}

static void free_grid(grid *g)
{
    free(g->codes);
    free(g->zeros);
    free(g->scales);
}

static void check_matrix(const sqz_affine *a, const grid *g)
{
    float *w = malloc((size_t)(g->rows * g->cols) * sizeof *w);
    uint8_t *row = malloc((size_t)g->cols);
    affine_dequantize(a, 0, g->rows, w);
    for (int64_t r = 0; r < g->rows; r++) {
        affine_unpack_row(a, r, row);
        for (int64_t c = 0; c < g->cols; c++) {
            int64_t i = r * g->cols + c, j = r * g->groups + c / g->group;
            int64_t bit = c * g->bits; /* the code again, bit by bit */
            unsigned code = 0;
            for (int b = 0; b < g->bits; b++) {
                const uint8_t *p = a->codes + r * affine_row_bytes(g->bits, g->cols);
                code |= (p[(bit + b) / 8] >> (bit + b) % 8 & 1u) << b;
            }
            float value = g->scales[j] * (float)((int)g->codes[i] - g->zeros[j]);
            if (code != g->codes[i] || row[c] != g->codes[i] || w[i] != value)
                ck_abort_msg("%d bits, row %lld, column %lld of %lld differs", g->bits,
                             (long long)r, (long long)c, (long long)g->cols);
        }
    }
    if (g->rows > 1) { /* a part of the rows */
        float *part = malloc((size_t)g->cols * sizeof *part);
        affine_dequantize(a, 1, 1, part);
        ck_assert_mem_eq(part, w + g->cols, (size_t)g->cols * sizeof *part);
        free(part);
    }
    free(row);
    free(w);
}

START_TEST(round_trips)
{
    static const int widths[] = {2, 3, 4, 8};
    static const int64_t columns[] = {1, 7, 31, 32, 33, 63, 129, 511, 512, 513, 1100};
    static const int64_t group_sizes[] = {1, 5, 32, 128, 10000};
    for (int b = 0; b < 4; b++)
        for (int c = 0; c < 11; c++)
            for (int k = 0; k < 5; k++) {
                int64_t group = group_sizes[k] < columns[c] ? group_sizes[k] : columns[c];
                grid g = make_grid(widths[b], 3, columns[c], group, k % 2);
                sqz_affine a, back;
                sqz_error err;
                ck_assert_msg(affine_pack(g.bits, g.rows, g.cols, g.group, k % 2, g.codes, g.scales,
                                          g.zeros, &a, &err) == SQZ_OK,
                              "%s", err.text);
                check_matrix(&a, &g);
                ck_assert_int_eq(affine_check(&a, NULL), SQZ_OK);
                ck_assert_int_eq(affine_bytes(&a),
                                 3 * (((g.cols * g.bits + 31) / 32) * 4 + 3 * g.groups));
                char *path = path_format("%s/a.safetensors", scratch);
                st_file *f;
                ck_assert_int_eq(affine_save(&(affine_item){"w", &a}, 1, path, NULL), SQZ_OK);
                ck_assert_int_eq(st_open(path, &f, NULL), SQZ_OK);
                ck_assert_msg(affine_load(f, "w", &back, &err) == SQZ_OK, "%s", err.text);
                ck_assert_int_eq(back.symmetric, k % 2);
                ck_assert_int_eq(back.group_size, g.group);
                check_matrix(&back, &g);
                st_close(f);
                free(path);
                affine_free(&a);
                free_grid(&g);
            }
}
END_TEST

START_TEST(bits_per_weight)
{
    grid g = make_grid(4, 2, 256, 128, 1);
    sqz_affine a;
    ck_assert_int_eq(affine_pack(4, 2, 256, 128, 1, g.codes, g.scales, g.zeros, &a, NULL), SQZ_OK);
    ck_assert_double_eq_tol(affine_bits_per_weight(&a), 4 + 24.0 / 128, 1e-12);
    affine_free(&a);
    free_grid(&g);
}
END_TEST

static void refuse(const grid *g, int symmetric, const char *message)
{
    sqz_affine a = {0};
    sqz_error err = {0};
    sqz_status st = affine_pack(g->bits, g->rows, g->cols, g->group, symmetric, g->codes, g->scales,
                                g->zeros, &a, &err);
    ck_assert_msg(st == SQZ_E_INVALID && strstr(err.text, message),
                  "status %d, '%s', expected '%s'", st, err.text, message);
    ck_assert_ptr_null(a.codes);
}

START_TEST(refuses)
{
    grid g = make_grid(3, 2, 40, 32, 0), h = g;
    h.bits = 5;
    refuse(&h, 0, "5 bits");
    h = g;
    h.rows = 0;
    refuse(&h, 0, "out of range");
    h = g;
    h.cols = INT64_MAX;
    refuse(&h, 0, "out of range");
    h = g;
    h.group = 41;
    refuse(&h, 0, "group size 41");
    h.group = 0;
    refuse(&h, 0, "group size 0");
    g.codes[41] = 8;
    refuse(&g, 0, "row 1 has a code above 7");
    g.codes[41] = 7;
    float good = g.scales[3];
    static const float bad[] = {0.1f, 1e6f, NAN, INFINITY, 1e-9f};
    for (int i = 0; i < 5; i++) {
        g.scales[3] = bad[i];
        refuse(&g, 0, "of row 1, group 1 is not an IEEE half");
    }
    g.scales[3] = good;
    g.zeros[2] = 0;
    refuse(&g, 0, "zero of row 1, group 0 is 0");
    g.zeros[2] = 8;
    refuse(&g, 0, "zero of row 1, group 0 is 8");
    g.zeros[2] = 3;
    g.zeros[0] = g.zeros[1] = g.zeros[3] = 4;
    refuse(&g, 1, "a symmetric grid has 4");
    free_grid(&g);
}
END_TEST

/* Stored content is untrusted: each flaw is found when the object is loaded. */
/* The header is the only I64 tensor, so it stands first in the data. */
static void patch_header(const char *path, int index, int64_t value)
{
    FILE *f = fopen(path, "r+b");
    uint64_t n;
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fread(&n, sizeof n, 1, f), 1);
    ck_assert_int_eq(fseek(f, (long)(8 + n) + 8 * index, SEEK_SET), 0);
    ck_assert_uint_eq(fwrite(&value, sizeof value, 1, f), 1);
    fclose(f);
}

START_TEST(refuses_files)
{
    grid g = make_grid(3, 2, 33, 32, 1);
    sqz_affine a, out;
    ck_assert_int_eq(affine_pack(3, 2, 33, 32, 1, g.codes, g.scales, g.zeros, &a, NULL), SQZ_OK);
    char *path = path_format("%s/a.safetensors", scratch);
    uint8_t *codes = (uint8_t *)(uintptr_t)a.codes, *zeros = (uint8_t *)(uintptr_t)a.zeros;
    uint16_t *scales = (uint16_t *)(uintptr_t)a.scales;
    for (int flaw = 0; flaw < 9; flaw++) {
        static const char *const messages[] = {"padding bits of row 1",
                                               "padding bits of row 0",
                                               "not finite",
                                               "zero of row",
                                               "a symmetric grid",
                                               "missing or misshapen",
                                               "impossible values",
                                               "misshapen",
                                               "bits"};
        sqz_affine b = a;
        uint8_t code12 = codes[12 + 16], code16 = codes[15], zero = zeros[0];
        uint16_t scale = scales[1];
        if (flaw == 0) codes[12 + 16] |= 8; /* bit 99 of row 1 */
        if (flaw == 1) codes[15] |= 0x80;
        if (flaw == 2) scales[1] = 0x7C00;
        if (flaw == 3) zeros[0] = 0;
        if (flaw == 4) zeros[0] = 5;
        ck_assert_int_eq(affine_save(&(affine_item){"w", &b}, 1, path, NULL), SQZ_OK);
        codes[12 + 16] = code12;
        codes[15] = code16;
        zeros[0] = zero;
        scales[1] = scale;
        if (flaw == 5) {
            char *command = path_format("LC_ALL=C sed -i 's/w.zeros/w.zerox/' %s", path);
            ck_assert_int_eq(system(command), 0);
            free(command);
        }
        if (flaw == 6) patch_header(path, 0, 9);  /* bits */
        if (flaw == 7) patch_header(path, 2, 8);  /* group_size */
        if (flaw == 8) patch_header(path, 0, 5);  /* bits */
        st_file *f;
        sqz_error err = {0};
        ck_assert_int_eq(st_open(path, &f, &err), SQZ_OK);
        sqz_status st = affine_load(f, "w", &out, &err);
        ck_assert_msg(st == ERR_STORAGE && strstr(err.text, messages[flaw]), "flaw %d: %d '%s'",
                      flaw, st, err.text);
        st_close(f);
    }
    free(path);
    affine_free(&a);
    free_grid(&g);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("affine");
    TCase *t = tcase_create("affine");
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_test(t, three_bit_words);
    tcase_add_test(t, four_bit_word);
    tcase_add_test(t, round_trips);
    tcase_add_test(t, bits_per_weight);
    tcase_add_test(t, refuses);
    tcase_add_test(t, refuses_files);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
