/* sources.c - see sources.h. */
#include "coordinator/sources.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>

sqz_status sources_open(const config *c, const convert_options *o, sources *out, sqz_error *err)
{
    sources s = {.options = *o, .n = c->n_datasets};
    s.datasets = calloc((size_t)s.n + 1, sizeof *s.datasets);
    if (!s.datasets) return err_set(err, SQZ_E_NOMEM, "no memory for the data sets");
    s.store = path_format("%s", o->store);
    s.options.store = s.store;
    s.facts = cJSON_CreateObject();
    *out = s;
    return SQZ_OK;
}

void sources_close(sources *s)
{
    for (int i = 0; i < s->n; i++) free(s->datasets[i]);
    free(s->datasets);
    free(s->calibration);
    free(s->of);
    free(s->store);
    cJSON_Delete(s->facts);
    *s = (sources){0};
}

sqz_status sources_dataset(sources *s, const config *c, int i, sqz_error *err)
{
    const config_dataset *d = &c->datasets[i];
    const reader_choice reader = {d->reader, d->reader_with};
    cJSON *facts = NULL;
    if (s->datasets[i]) return SQZ_OK;
    if (!convert_may_need(d->source, &reader)) {
        s->datasets[i] = path_format("%s", d->source);
        return SQZ_OK;
    }
    sqz_status st = convert_dataset(&s->options, d->source, &reader, &s->datasets[i], &facts, err);
    if (facts) cJSON_AddItemToObject(s->facts, d->name, facts);
    return st;
}

sqz_status sources_calibration(sources *s, const config *c, const char *spec, sqz_error *err)
{
    /* What was found beside the data is read by its ending. */
    int given = c->calibration && !strcmp(c->calibration, spec);
    const reader_choice reader = {given ? c->calibration_reader : NULL,
                                  given ? c->calibration_reader_with : NULL};
    if (s->of && !strcmp(s->of, spec)) return SQZ_OK;
    free(s->of);
    free(s->calibration);
    s->calibration = NULL;
    s->of = path_format("%s", spec);
    return convert_mix(&s->options, spec, &reader, &s->calibration, err);
}

const char *sources_dataset_spec(const sources *s, const config *c, int i)
{
    return s && i < s->n && s->datasets[i] ? s->datasets[i] : c->datasets[i].source;
}

const char *sources_calibration_spec(const sources *s, const char *spec)
{
    return s && spec && s->calibration && !strcmp(s->of, spec) ? s->calibration : spec;
}
