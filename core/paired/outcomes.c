/* outcomes.c - see outcomes.h. */
#include "paired/outcomes.h"
#include "io/file.h"
#include "json/json.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int64_t MAX_BYTES = (int64_t)4 << 30;

static sqz_status add_line(const char *line, size_t bytes, const char *dataset, int with_notes,
                           outcomes *o, int64_t *room, sqz_error *err)
{
    cJSON *row = cJSON_ParseWithLength(line, bytes);
    double i = json_num(row, "i", NAN), value = json_num(row, "outcome", NAN);
    const char *of = json_str(row, "dataset", NULL), *note = json_str(row, "note", NULL);
    int counts = isfinite(i) && fabs(i) < 0x1p53 && isfinite(value) &&
                 (!of || !dataset || !strcmp(of, dataset));
    sqz_status s = SQZ_OK;
    if (counts && o->n == *room) {
        *room = *room ? 2 * *room : 256;
        outcome *grown = realloc(o->at, (size_t)*room * sizeof *grown);
        if (grown)
            o->at = grown;
        else
            s = err_set(err, SQZ_E_NOMEM, "no memory for the outcomes of an evaluation");
    }
    if (counts && !s)
        o->at[o->n++] = (outcome){(int64_t)i, value, note && with_notes ? strdup(note) : NULL};
    cJSON_Delete(row);
    return s;
}

static int by_row(const void *a, const void *b)
{
    int64_t x = ((const outcome *)a)->i, y = ((const outcome *)b)->i;
    return (x > y) - (x < y);
}

/* An evaluation that draws its rows leaves them in the order drawn. */
static void order(outcomes *o)
{
    int64_t kept = 0;
    if (o->n > 1) qsort(o->at, (size_t)o->n, sizeof *o->at, by_row);
    for (int64_t k = 0; k < o->n; k++) {
        if (kept && o->at[kept - 1].i == o->at[k].i)
            free(o->at[k].note);
        else
            o->at[kept++] = o->at[k];
    }
    o->n = kept;
}

sqz_status outcomes_read(const char *path, const char *dataset, int with_notes, outcomes *out,
                         sqz_error *err)
{
    char *text = NULL;
    int64_t bytes = 0, room = 0;
    *out = (outcomes){0};
    sqz_status s = file_read(path, MAX_BYTES, &text, &bytes, err);
    for (char *line = s ? NULL : text; line && *line && !s;) {
        char *end = strchr(line, '\n');
        s = add_line(line, end ? (size_t)(end - line) : strlen(line), dataset, with_notes, out,
                     &room, err);
        line = end ? end + 1 : NULL;
    }
    free(text);
    if (s)
        outcomes_free(out);
    else
        order(out);
    return s;
}

void outcomes_free(outcomes *o)
{
    for (int64_t k = 0; k < o->n; k++) free(o->at[k].note);
    free(o->at);
    *o = (outcomes){0};
}

sqz_status outcomes_pair(const outcomes *a, const outcomes *b, outcome_pairs *out, sqz_error *err)
{
    size_t most = (size_t)(a->n < b->n ? a->n : b->n) + 1;
    *out = (outcome_pairs){malloc(most * sizeof(double)), malloc(most * sizeof(double)),
                           malloc(most * sizeof(outcome *)), malloc(most * sizeof(outcome *)), 0};
    if (!out->a || !out->b || !out->first || !out->second) {
        outcome_pairs_free(out);
        return err_set(err, SQZ_E_NOMEM, "no memory to pair the outcomes of two evaluations");
    }
    for (int64_t i = 0, k = 0; i < a->n && k < b->n;) {
        const outcome *x = &a->at[i], *y = &b->at[k];
        if (x->i == y->i) {
            out->a[out->n] = x->value;
            out->b[out->n] = y->value;
            out->first[out->n] = x;
            out->second[out->n++] = y;
        }
        i += x->i <= y->i;
        k += y->i <= x->i;
    }
    return SQZ_OK;
}

void outcome_pairs_free(outcome_pairs *p)
{
    free(p->a);
    free(p->b);
    free(p->first);
    free(p->second);
    *p = (outcome_pairs){0};
}
