/* config_read.c - see config_read.h. */
#include "model/config_read.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void key_reject(reader *r, const cJSON *item, const char *fmt, ...)
{
    if (r->status) return;
    char text[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int line = 0, column = 0;
    if (item) json_where(r->doc, item, &line, &column);
    if (line)
        r->status = err_set(r->err, ERR_MODEL, "%s:%d:%d: %s", r->name, line, column, text);
    else
        r->status = err_set(r->err, ERR_MODEL, "%s: %s", r->name, text);
}

const cJSON *key_present(const cJSON *object, const char *key)
{
    const cJSON *item = json_get(object, key);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

double key_real(reader *r, const cJSON *object, const char *key, double fallback, double lo,
                double hi)
{
    const cJSON *item = key_present(object, key);
    if (!item || r->status) return fallback;
    if (!cJSON_IsNumber(item)) {
        key_reject(r, item, "%s is not a number", key);
        return fallback;
    }
    double v = item->valuedouble;
    if (!(v >= lo && v <= hi)) {
        key_reject(r, item, "%s is %g; it must lie between %g and %g", key, v, lo, hi);
        return fallback;
    }
    return v;
}

int64_t key_int(reader *r, const cJSON *object, const char *key, int64_t fallback, int64_t lo,
                int64_t hi)
{
    const cJSON *item = key_present(object, key);
    if (!item || r->status) return fallback;
    if (!cJSON_IsNumber(item)) {
        key_reject(r, item, "%s is not a number", key);
        return fallback;
    }
    double v = item->valuedouble;
    if (!(v >= (double)lo && v <= (double)hi) || v != floor(v)) {
        key_reject(r, item, "%s is %.17g; it must be a whole number from %lld to %lld", key, v,
                   (long long)lo, (long long)hi);
        return fallback;
    }
    return (int64_t)v;
}

int key_bool(reader *r, const cJSON *object, const char *key, int fallback)
{
    const cJSON *item = key_present(object, key);
    if (!item || r->status) return fallback;
    if (!cJSON_IsBool(item)) {
        key_reject(r, item, "%s is neither true nor false", key);
        return fallback;
    }
    return cJSON_IsTrue(item);
}

const char *key_text(reader *r, const cJSON *object, const char *key)
{
    const cJSON *item = key_present(object, key);
    if (!item || r->status) return NULL;
    if (!cJSON_IsString(item)) {
        key_reject(r, item, "%s is not a string", key);
        return NULL;
    }
    return item->valuestring;
}

const char *family_key_name(const model_config *c, family_key key)
{
    static const char *const usual[KEY_COUNT] = {
        [KEY_HIDDEN] = "hidden_size",
        [KEY_LAYERS] = "num_hidden_layers",
        [KEY_HEADS] = "num_attention_heads",
        [KEY_FFN] = "intermediate_size",
        [KEY_CONTEXT] = "max_position_embeddings",
        [KEY_EPS] = "rms_norm_eps",
        [KEY_ACT] = "hidden_act",
        [KEY_PARTIAL] = "partial_rotary_factor",
        [KEY_THETA] = "rope_theta",
    };
    return c->family->keys[key] ? c->family->keys[key] : usual[key];
}
