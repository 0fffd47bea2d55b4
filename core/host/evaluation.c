/* evaluation.c - see evaluation.h. */
#include "host/evaluation.h"
#include "data/data.h"
#include "host/services.h"
#include "task/random.h"
#include "task/task.h"

static answers *judge_of(const sqz_rows *rows)
{
    const task *t = dataset_task(rows);
    return t ? t->judge : NULL;
}

static int64_t filters(const sqz_host *h, const sqz_rows *rows)
{
    const answers *a = judge_of(rows);
    (void)h;
    return a ? answers_filters(a) : 0;
}

static const char *filter_name(const sqz_host *h, const sqz_rows *rows, int64_t filter)
{
    const answers *a = judge_of(rows);
    (void)h;
    return a ? answers_name(a, filter) : NULL;
}

static sqz_status judge(const sqz_host *h, const sqz_rows *rows, int64_t i, int64_t filter,
                        const char *response, const char **answer, int32_t *right)
{
    static _Thread_local text_buffer extracted; /* until the next call */
    answers *a = judge_of(rows);
    const char *target = a ? rows->text(rows, i, "request.target") : NULL;
    sqz_error err = {0};
    int same = 0;
    if (!target) return host_fail(h, SQZ_E_INVALID, "the row belongs to no task that has answers");
    sqz_status st = answers_judge(a, filter, response, target, &extracted, &same, &err);
    if (!st) text_add(&extracted, "", 1);
    if (!st && extracted.failed) st = err_set(&err, SQZ_E_NOMEM, "no memory for an answer");
    if (st) return host_fail(h, st, err.text);
    *answer = extracted.at;
    *right = same;
    return SQZ_OK;
}

static sqz_status perplexity_stderr(const sqz_host *h, const double *values, int64_t n,
                                    double *stderr_)
{
    sqz_error err = {0};
    sqz_status st = bootstrap_perplexity(values, n, stderr_, &err);
    return st ? host_fail(h, st, err.text) : SQZ_OK;
}

const sqz_task *evaluation_table(void)
{
    static const sqz_task table = {sizeof table, 0, filters, filter_name, judge, perplexity_stderr};
    return &table;
}
