/* config_read.h - numbers, words and flags out of config.json, each checked against its range; what
 * config.c and config_rope.c share. */
#ifndef SQZ_RUNTIME_MODEL_CONFIG_READ_H
#define SQZ_RUNTIME_MODEL_CONFIG_READ_H
#include "json/json.h"
#include "model/family.h"

/* Products of any three stay below 2^63: vocab * hidden < 2^41, hidden * ffn * layers < 2^49. */
enum {
    MAX_VOCAB = 1 << 24,
    MAX_HIDDEN = 1 << 17,
    MAX_FFN = 1 << 20,
    MAX_LAYERS = 1 << 12,
    MAX_HEADS = 1 << 12,
    MAX_HEAD_DIM = 1 << 12,
    MAX_CONTEXT = 1 << 28,
    MAX_EXPERTS = 1 << 10,
    MAX_EXPERT_FFN = 1 << 18
};

/* Reads keys of one document; the first failure sticks in `status` and later reads do nothing. */
typedef struct reader {
    const json_doc *doc;
    const char *name;
    sqz_error *err;
    sqz_status status;
} reader;

__attribute__((format(printf, 3, 4))) void key_reject(reader *r, const cJSON *item, const char *fmt,
                                                      ...);
/* The item, or NULL when absent or null. */
const cJSON *key_present(const cJSON *object, const char *key);
double key_real(reader *r, const cJSON *object, const char *key, double fallback, double lo,
                double hi);
int64_t key_int(reader *r, const cJSON *object, const char *key, int64_t fallback, int64_t lo,
                int64_t hi);
int key_bool(reader *r, const cJSON *object, const char *key, int fallback);
const char *key_text(reader *r, const cJSON *object, const char *key);
/* As this family spells a key. */
const char *family_key_name(const model_config *, family_key);

/* config_rope.c: needs the shape and the windows to be known. */
void read_rope(reader *r, const cJSON *root, model_config *c);
#endif
