/* gptq_file.h - the GPTQ checkpoint layout, shared by the exporter and the importer.
 *
 * A quantized linear X holds, instead of X.weight,
 *     X.qweight  I32 [cols * bits / 32, rows]   codes, packed along the input features
 *     X.qzeros   I32 [groups, rows * bits / 32] zero points - 1 (v1), packed along the outputs
 *     X.scales   F16 [groups, rows]
 *     X.g_idx    I32 [cols]                     group of each input feature
 * Packing is one little-endian bit stream in 32-bit words, so 3-bit codes straddle words and 32 of
 * them fill three.  sqz calls output features rows and input features cols. */
#ifndef FORMAT_GPTQ_FILE_H
#define FORMAT_GPTQ_FILE_H
#include <sqz/sqz.h>
#include <string.h>

enum { GPTQ_LIMIT = 1 << 26 }; /* rows and cols of one linear, far beyond any model */

/* What quantization_config announces. */
typedef struct gptq_config {
    int bits;
    int64_t group_size; /* -1: whole row */
    int desc_act, sym, lm_head;
    int zero_offset; /* added to a stored zero point: 1 in v1, 0 in v2 */
} gptq_config;

/* config.c */
int config_probe(const char *config_json);
/* Errors by host->fail. */
sqz_status config_read(const sqz_host *host, const char *config_json, gptq_config *out);
/* The quantization_config object as text, malloc'd; subset lists the suffixes of the quantized
 * linears of a block, or is NULL when all that a reader may take for linears are. */
char *config_object(const sqz_host *host, int bits, int64_t group_size, int symmetric,
                    const char *const *subset, int n_subset);
/* The source's config.json with the object spliced in, everything else byte for byte; malloc'd,
 * NULL when the text is not a JSON object (or memory ran out). */
char *config_splice(const char *config_json, const char *object);

/* readme.c: how to load the folder, malloc'd; subset: only some linears of a block are quantized;
 * kind: what readers must know.  EXPERTS_IN_MLP: experts named mlp.experts.N, as gptqmodel 7 wants
 * them, in every block (it leaves a dense one's linears unread); KEYS_OF_5: config.json is spelled
 * as transformers 5 writes it. */
enum { GPTQ_EXPERTS = 1, GPTQ_CONV1D = 2, GPTQ_EXPERTS_IN_MLP = 4, GPTQ_KEYS_OF_5 = 8 };
char *gptq_readme(int bits, int64_t group_size, int symmetric, int subset, int kind);
/* What config.json alone says of the kind: CONV1D (its linears are kept [in, out]), KEYS_OF_5. */
int config_kind(const char *config_json);

/* export.c, import.c */
sqz_status gptq_check(const sqz_host *host, void *self, const sqz_export *ex);
sqz_status gptq_export(const sqz_host *host, void *self, const sqz_export *ex);
sqz_status gptq_import_linear(const sqz_host *host, void *self, const sqz_import *im,
                              const char *module, sqz_affine *out);

/* layout.c */
/* to[c][r] = from[r][c], 32-bit words, from is [rows, cols]; on all threads of the pool. */
void layout_turn(const sqz_host *host, const void *from, int64_t rows, int64_t cols, void *to);
/* n zero points, `stride` bytes apart, less 1, as a little-endian stream; n * bits fills words. */
void layout_put_zeros(const uint8_t *zeros, int64_t stride, int64_t n, int bits, uint8_t *stream);
/* The other way; 0 and 2^bits may come out where the file is wrong. */
void layout_get_zeros(const uint8_t *stream, int64_t n, int bits, int offset, uint16_t *zeros);
#endif
