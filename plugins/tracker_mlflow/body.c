/* body.c - the JSON of a request.
 *
 * An allocation that fails while it is put together is remembered, and a request with a part
 * missing is never sent (api_call): a tag without its text would stay on the server. */
#include "mlflow.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void put_item(mlflow *m, cJSON *to, const char *key, cJSON *item)
{
    int done = key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item);
    if (done) return;
    cJSON_Delete(item);
    m->lost = 1;
}

void put_text(mlflow *m, cJSON *to, const char *key, const char *text)
{
    put_item(m, to, key, text ? cJSON_CreateString(text) : NULL);
}

void put_number(mlflow *m, cJSON *to, const char *key, double value)
{
    put_item(m, to, key, cJSON_CreateNumber(value));
}

cJSON *put_array(mlflow *m, cJSON *to, const char *key)
{
    cJSON *list = cJSON_CreateArray();
    if (cJSON_AddItemToObject(to, key, list)) return list;
    cJSON_Delete(list);
    m->lost = 1;
    return NULL;
}

void put_pair(mlflow *m, cJSON *list, const char *key, const char *value, size_t max)
{
    char clean_key[MAX_KEY + 1], *clean = text_value(value, max);
    cJSON *pair = cJSON_CreateObject();
    text_key(key, clean_key);
    put_text(m, pair, "key", clean_key);
    put_text(m, pair, "value", clean);
    put_item(m, list, NULL, pair);
    free(clean);
}

void put_json(mlflow *m, cJSON *to, const char *key, const cJSON *value)
{
    if (!value) return;
    char *text = cJSON_PrintUnformatted(value);
    put_text(m, to, key, text);
    free(text);
}
