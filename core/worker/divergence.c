/* divergence.c - see divergence.h.  The record of the baseline's likeliest tokens is an object of
 * the registry, made once by the baseline's own job. */
#include "worker/divergence.h"
#include <stdlib.h>

static sqz_status save_record(job_state *s, const int32_t *ids, int64_t n, int64_t window,
                              const int32_t *top_ids, const float *top_lp, char digest[DIGEST_TEXT],
                              sqz_error *err)
{
    char *path = object_temp(s->registry);
    int64_t is[2] = {n, window}, ts[3] = {n, window, MODEL_KL_TOP};
    st_writer *w;
    sqz_status st = st_writer_new(path, &w, err);
    if (!st) {
        st = st_writer_declare(w, "ids", SQZ_I32, 2, is, err);
        if (!st) st = st_writer_declare(w, "top_ids", SQZ_I32, 3, ts, err);
        if (!st) st = st_writer_declare(w, "top_logprobs", SQZ_F32, 3, ts, err);
        if (!st) st = st_writer_write(w, "ids", ids, n * window * 4, err);
        if (!st) st = st_writer_write(w, "top_ids", top_ids, n * window * MODEL_KL_TOP * 4, err);
        if (!st)
            st = st_writer_write(w, "top_logprobs", top_lp, n * window * MODEL_KL_TOP * 4, err);
        if (st)
            st_writer_abort(w);
        else
            st = st_writer_finish(w, err);
    }
    if (!st) st = object_adopt(s->registry, path, digest, err);
    free(path);
    return st;
}

/* The first windows of the data set's token stream (rows of any kind are rendered as text). */
static sqz_status kl_windows(subject *subj, const cJSON *spec, calibration *out, sqz_error *err)
{
    dataset *d;
    tokenizer *tok;
    mix_spec mix; /* the calibration's, when no evaluated set is running text: its first part */
    sqz_status st = subject_tokenizer(subj, &tok, err);
    if (!st) st = mix_parse(json_str(spec, "dataset", ""), &mix, err);
    if (st) return st;
    st = dataset_open(mix.specs[0], &d, err);
    mix_free(&mix);
    if (st) return st;
    int64_t context = subj->config.context, window = json_int(spec, "window", 0);
    if (window <= 0) window = context < 256 ? context : 256;
    int64_t tokens = json_int(spec, "tokens", 8192);
    calibration_options o = {.samples = tokens > window ? tokens / window : 1, .seq_len = window};
    st = calibration_make(d, tok, &o, out, err);
    dataset_close(d);
    return st;
}

static sqz_status kl_make(job_state *s, subject *subj, const cJSON *spec, cJSON *out,
                          sqz_error *err)
{
    calibration w = {0};
    model *m;
    char digest[DIGEST_TEXT];
    sqz_status st = kl_windows(subj, spec, &w, err);
    if (!st) st = subject_model(subj, &m, err);
    if (st) return st;
    size_t n = (size_t)(w.windows * w.window * MODEL_KL_TOP);
    int32_t *ids = malloc(n * sizeof *ids);
    float *lp = malloc(n * sizeof *lp);
    if (!ids || !lp) st = err_set(err, SQZ_E_NOMEM, "no memory for the record of the baseline");
    if (!st) st = model_top_record(m, w.ids, w.windows, w.window, ids, lp, err);
    if (!st) st = save_record(s, w.ids, w.windows, w.window, ids, lp, digest, err);
    if (!st) {
        cJSON_AddStringToObject(out, "record", digest);
        json_add_num(out, "tokens", (double)(w.windows * w.window));
    }
    free(ids);
    free(lp);
    calibration_free(&w);
    return st;
}

static sqz_status kl_measure(job_state *s, subject *subj, const char *digest, cJSON *out,
                             sqz_error *err)
{
    model *m;
    sqz_status st = object_verify(s->registry, digest, err);
    if (!st) st = subject_model(subj, &m, err);
    if (st) return st;
    char *path = object_path(s->registry, digest);
    st_file *f;
    st = st_open(path, &f, err);
    free(path);
    if (st) return st;
    const st_tensor *ids = st_find(f, "ids"), *top = st_find(f, "top_ids"),
                    *lp = st_find(f, "top_logprobs");
    model_divergence apart;
    if (!ids || !top || !lp || ids->rank != 2 || top->bytes != ids->bytes * MODEL_KL_TOP ||
        lp->bytes != top->bytes)
        st = err_set(err, ERR_STORAGE, "%s is not a record of log-probabilities", digest);
    if (!st)
        st = model_kl(m, (const int32_t *)(const void *)ids->data, ids->shape[0], ids->shape[1],
                      (const int32_t *)(const void *)top->data,
                      (const float *)(const void *)lp->data, &apart, err);
    if (!st) {
        json_add_num(out, "mean", apart.kl);
        json_add_num(out, "stderr", apart.kl_stderr);
        json_add_num(out, "median", apart.kl_median);
        json_add_num(out, "p99", apart.kl_p99);
        json_add_num(out, "max", apart.kl_max);
        json_add_num(out, "same_top", apart.same_top);
        json_add_num(out, "same_top_stderr", apart.same_top_stderr);
        json_add_num(out, "flips", (double)apart.flips);
        json_add_num(out, "perplexity", apart.perplexity);
        json_add_num(out, "tokens", (double)apart.positions);
        cJSON_AddStringToObject(out, "kind",
                                "partition over the 64 likeliest tokens: a lower bound");
    }
    st_close(f);
    return st;
}

sqz_status divergence_run(job_state *s, subject *subj, const cJSON *spec, cJSON *out,
                          sqz_error *err)
{
    const char *record = json_str(spec, "record", NULL);
    if (job_tick(s, 0.5, "divergence from the baseline"))
        return err_set(err, SQZ_E_CANCELLED, "cancelled");
    return record ? kl_measure(s, subj, record, out, err) : kl_make(s, subj, spec, out, err);
}
