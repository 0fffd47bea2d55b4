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
/* The quantization_config object as text, malloc'd; subsets lists the suffixes of the quantized
 * linears of a block, or is NULL when all are. */
char *config_object(const sqz_host *host, int bits, int64_t group_size, int symmetric,
                    const char *const *subset, int n_subset);
/* The source's config.json with the object spliced in, everything else byte for byte; malloc'd,
 * NULL when the text is not a JSON object (or memory ran out). */
char *config_splice(const char *config_json, const char *object);

/* readme.c: how to load the folder, malloc'd; subset: only some linears of a block are quantized;
 * kind: what readers must know about the modules. */
enum { GPTQ_EXPERTS = 1, GPTQ_CONV1D = 2 };
char *gptq_readme(int bits, int64_t group_size, int symmetric, int subset, int kind);
/* Whether the source keeps its linears as Conv1D, [in, out]. */
int config_conv1d(const char *config_json);

/* export.c, import.c */
sqz_status gptq_check(const sqz_host *host, void *self, const sqz_export *ex);
sqz_status gptq_export(const sqz_host *host, void *self, const sqz_export *ex);
sqz_status gptq_import_linear(const sqz_host *host, void *self, const sqz_import *im,
                              const char *module, sqz_affine *out);

/* Bit i of a little-endian stream of 32-bit words. */
static inline uint32_t stream_get(const uint8_t *words, int64_t bit, int n)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++, bit++) v |= (uint32_t)((words[bit >> 3] >> (bit & 7)) & 1) << i;
    return v;
}
static inline void stream_put(uint8_t *words, int64_t bit, int n, uint32_t v)
{
    for (int i = 0; i < n; i++, bit++)
        words[bit >> 3] = (uint8_t)(words[bit >> 3] | ((v >> i) & 1) << (bit & 7));
}
#endif
