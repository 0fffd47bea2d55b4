/* template.c - see template.h. */
#include "tokenizer/template.h"
#include "json/json.h"
#include <string.h>

static sqz_status add_id(id_list *list, double id, const char *file, sqz_error *err)
{
    if (!(id >= 0 && id < INT32_MAX) || id != (double)(int32_t)id)
        return err_set(err, ERR_MODEL, "%s: post_processor names id %g", file, id);
    ids_add(list, (int32_t)id);
    return list->failed ? err_set(err, SQZ_E_NOMEM, "%s: no memory", file) : SQZ_OK;
}

/* {"id": "<s>", "ids": [1], ...}: one special token may stand for several ids. */
static sqz_status add_special(const cJSON *table, const char *name, const char *file, id_list *list,
                              sqz_error *err)
{
    const cJSON *ids = json_get(json_get(table, name), "ids"), *id;
    sqz_status st = SQZ_OK;
    if (!cJSON_IsArray(ids))
        return err_set(err, ERR_MODEL, "%s: the template's special token \"%.60s\" has no ids",
                       file, name);
    cJSON_ArrayForEach(id, ids)
    {
        if (st == SQZ_OK) st = add_id(list, cJSON_IsNumber(id) ? id->valuedouble : -1, file, err);
    }
    return st;
}

static sqz_status read_template(const cJSON *json, const char *file, id_list *before,
                                id_list *after, sqz_error *err)
{
    const cJSON *list = json_get(json, "single"), *item;
    const cJSON *table = json_get(json, "special_tokens");
    int texts = 0;
    sqz_status st = SQZ_OK;
    cJSON_ArrayForEach(item, list)
    {
        const cJSON *special = json_get(item, "SpecialToken");
        if (json_get(item, "Sequence"))
            texts++;
        else if (st == SQZ_OK)
            st = add_special(table, json_str(special, "id", ""), file, texts ? after : before, err);
    }
    if (st == SQZ_OK && texts != 1)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "%s: the template for a single text has %d texts instead of one", file,
                       texts);
    return st;
}

/* ["<s>", 0] */
static sqz_status add_pair(const cJSON *pair, const char *file, id_list *list, sqz_error *err)
{
    const cJSON *id = cJSON_GetArrayItem(pair, 1);
    return add_id(list, cJSON_IsNumber(id) ? id->valuedouble : -1, file, err);
}

sqz_status template_read(const cJSON *json, const char *file, id_list *before, id_list *after,
                         sqz_error *err)
{
    if (!json || cJSON_IsNull(json)) return SQZ_OK;
    const char *type = json_str(json, "type", "");
    sqz_status st = SQZ_OK;
    if (!strcmp(type, "ByteLevel")) return SQZ_OK; /* trims offsets, which nobody here has */
    if (!strcmp(type, "Sequence")) {
        const cJSON *item;
        cJSON_ArrayForEach(item, json_get(json, "processors"))
        {
            if (st == SQZ_OK) st = template_read(item, file, before, after, err);
        }
        return st;
    }
    if (before->n || after->n)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "%s: more than one post_processor adds tokens; only one may", file);
    if (!strcmp(type, "TemplateProcessing")) return read_template(json, file, before, after, err);
    if (!strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing")) {
        st = add_pair(json_get(json, "cls"), file, before, err);
        return st == SQZ_OK ? add_pair(json_get(json, "sep"), file, after, err) : st;
    }
    return err_set(err, SQZ_E_UNSUPPORTED, "%s: post_processor \"%s\" is not built", file, type);
}
