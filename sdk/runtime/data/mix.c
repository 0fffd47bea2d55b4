/* mix.c - "FILE@2,FOLDER:train@1": several data sets and their weights as one text. */
#include "data/data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void mix_free(mix_spec *m)
{
    for (int64_t i = 0; i < m->n; i++) free(m->specs[i]);
    free(m->specs);
    free(m->weights);
    *m = (mix_spec){0};
}

static int add_part(mix_spec *m, const char *text, size_t n, double weight)
{
    char **specs = realloc(m->specs, (size_t)(m->n + 1) * sizeof *specs);
    if (specs) m->specs = specs;
    double *weights = realloc(m->weights, (size_t)(m->n + 1) * sizeof *weights);
    if (weights) m->weights = weights;
    char *copy = specs && weights ? strndup(text, n) : NULL;
    if (!copy) return 0;
    m->specs[m->n] = copy;
    m->weights[m->n++] = weight;
    return 1;
}

int mix_is_one(const char *text)
{
    char *path = dataset_path(text);
    const char *found = path ? strstr(text, path) : NULL;
    /* Behind a folder's colon @ and , are the mix's: FOLDER:train@2 has a weight. */
    int one = found && !strpbrk(found + strlen(path), "@,");
    if (one && found > text) one = !memchr(text, ',', (size_t)(found - text)); /* A,NAME=B */
    free(path);
    return one;
}

static int is_data_set(const char *text, size_t n)
{
    char *copy = strndup(text, n);
    int one = copy && mix_is_one(copy);
    free(copy);
    return one;
}

/* One part, [p, p + n); *used = it was understood. */
static sqz_status parse_part(mix_spec *m, const char *p, size_t n, sqz_error *err)
{
    const char *at = memrchr(p, '@', n);
    double weight = 1;
    if (!n) return err_set(err, ERR_USAGE, "a mix of data sets holds an empty name");
    if (at && !is_data_set(p, n)) {
        char *end, *number = strndup(at + 1, n - (size_t)(at + 1 - p));
        if (!number) return err_set(err, SQZ_E_NOMEM, "no memory for a mix of data sets");
        weight = strtod(number, &end);
        int ok = *number && !*end && weight > 0 && isfinite(weight);
        free(number);
        if (!ok)
            return err_set(err, ERR_USAGE,
                           "data set \"%.*s\": the weight after @ is no number above 0", (int)n, p);
        n = (size_t)(at - p);
    }
    return add_part(m, p, n, weight)
               ? SQZ_OK
               : err_set(err, SQZ_E_NOMEM, "no memory for a mix of data sets");
}

sqz_status mix_parse(const char *text, mix_spec *out, sqz_error *err)
{
    mix_spec m = {0};
    sqz_status st = SQZ_OK;
    if (is_data_set(text, strlen(text))) { /* a path may hold commas */
        st = parse_part(&m, text, strlen(text), err);
    } else {
        for (const char *p = text; p && st == SQZ_OK;) {
            const char *comma = strchr(p, ',');
            st = parse_part(&m, p, comma ? (size_t)(comma - p) : strlen(p), err);
            p = comma ? comma + 1 : NULL;
        }
    }
    if (st != SQZ_OK) {
        mix_free(&m);
        return st;
    }
    *out = m;
    return SQZ_OK;
}
