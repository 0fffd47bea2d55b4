/* cmd_quantize.c - sqz quantize: one method step and an export, in a worker. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "data/data.h"
#include "io/file.h"
#include "tokenizer/tokenizer.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const cli_option options[] = {
    {"method", CLI_TEXT, "ID", NULL, 0, 0,
     "method plugin by its id or the last part of it; `sqz plugin list --kind method`"},
    {"output", CLI_TEXT, "DIR", NULL, 0, 0, "folder of the exported checkpoint"},
    {"bits", CLI_INT, "N", NULL, 1, 16, "bits per weight (default: the method's)"},
    {"group-size", CLI_INT, "N", NULL, -1, 1 << 20,
     "weights that share a scale; -1 = a whole row (default: the method's)"},
    {"symmetric", CLI_FLAG, NULL, NULL, 0, 0, "grid symmetric around zero"},
    {"asymmetric", CLI_FLAG, NULL, NULL, 0, 0, "grid with a zero point of its own per group"},
    {"calibration", CLI_TEXT, "FILE", NULL, 0, 0,
     "data that the method may look at: FILE, FOLDER:SPLIT, or a mix A@2,B@1 with weights"},
    {"samples", CLI_INT, "N", "128", 1, 1e9, "calibration windows"},
    {"tokens", CLI_INT, "N", NULL, 2, 1e12, "tokens of all windows, in place of --samples"},
    {"packing", CLI_CHOICE, "concat|document|row", "concat", 0, 0,
     "windows cut from all rows in one stream, from inside single rows, or one row each"},
    {"against", CLI_LIST, "FILE", NULL, 0, 0,
     "data sets to be evaluated later: rows that also occur there are not calibrated on"},
    {"seq-len", CLI_INT, "N", NULL, 1, 1e9,
     "tokens per calibration window (default: min(2048, the model's context))"},
    {"shuffle", CLI_FLAG, NULL, NULL, 0, 0,
     "draw the windows by the seed instead of taking the first"},
    {"document-tokens", CLI_CHOICE, "default|none|bos|eos|bos+eos", "default", 0, 0,
     "special tokens around each calibration document"},
    {"format", CLI_TEXT, "NAME", NULL, 0, 0, "format plugin (default: the best that can hold it)"},
    {"param", CLI_LIST, "K=V", NULL, 0, 0,
     "any other parameter of the method; `sqz plugin info METHOD` lists them"},
    READER_OPTIONS,
    COMPUTE_OPTION("auto"),
    MEMORY_OPTION,
};

/* "with" of the step: the named options and --param, checked against the method's own rows. */
static sqz_status make_with(const cli *c, const agent_info *method, cJSON *with, sqz_error *err)
{
    if (cli_flag(c, "symmetric") && cli_flag(c, "asymmetric"))
        return err_set(err, ERR_USAGE, "--symmetric and --asymmetric exclude each other");
    if (cli_given(c, "bits")) json_add_num(with, "bits", (double)cli_int(c, "bits"));
    if (cli_given(c, "group-size"))
        json_add_num(with, "group_size", (double)cli_int(c, "group-size"));
    if (cli_flag(c, "symmetric") || cli_flag(c, "asymmetric"))
        cJSON_AddBoolToObject(with, "symmetric", cli_flag(c, "symmetric"));
    cJSON *resolved = NULL;
    sqz_status s = cli_params(c, "param", method, with, err);
    if (!s) s = params_resolve(method, with, NULL, &resolved, err);
    cJSON_Delete(resolved);
    return s;
}

static cJSON *make_calibration(const cli *c, const char *source)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "source", source);
    cJSON_AddNumberToObject(o, "samples", (double)cli_int(c, "samples"));
    if (cli_given(c, "seq-len"))
        cJSON_AddNumberToObject(o, "seq_len", (double)cli_int(c, "seq-len"));
    if (cli_given(c, "tokens")) cJSON_AddNumberToObject(o, "tokens", (double)cli_int(c, "tokens"));
    cJSON_AddStringToObject(o, "packing", cli_text(c, "packing"));
    cJSON_AddBoolToObject(o, "shuffle", cli_flag(c, "shuffle"));
    cJSON_AddNumberToObject(o, "seed", (double)cli_seed(c));
    cJSON_AddStringToObject(o, "document_tokens", cli_text(c, "document-tokens"));
    return o;
}

/* The sets whose rows are not calibrated on. */
static sqz_status add_against(const cli *c, cJSON *calibration, sqz_error *err)
{
    const char *const *against;
    int n = cli_list(c, "against", &against);
    cJSON *exclude = cJSON_AddArrayToObject(calibration, "exclude");
    sqz_status s = SQZ_OK;
    for (int i = 0; i < n && !s; i++) {
        char *local = NULL;
        s = cli_dataset(c, against[i], -1, &local, err);
        if (!s) cJSON_AddItemToArray(exclude, cJSON_CreateString(local));
        free(local);
    }
    return s;
}

/* [steps, export]; also validates everything that can be known before a worker starts. */
static sqz_status make_tasks(const cli *c, cJSON **out, sqz_error *err)
{
    catalogue *cat;
    const agent_info *method, *format;
    cJSON *with = cJSON_CreateObject();
    char *source = NULL;
    sqz_status s = SQZ_OK;
    if (cli_given(c, "calibration"))
        s = cli_calibration(c, cli_text(c, "calibration"), &source, err);
    if (!s) s = cli_catalogue(c, &cat, err);
    if (s) {
        free(source);
        cJSON_Delete(with);
        return s;
    }
    s = catalogue_find(cat, "method/1", cli_text(c, "method"), &method, err);
    if (!s) s = make_with(c, method, with, err);
    if (!s && cli_given(c, "format"))
        s = catalogue_find(cat, "format/1", cli_text(c, "format"), &format, err);
    cJSON *calibration = source ? make_calibration(c, source) : NULL;
    if (!s && calibration) s = add_against(c, calibration, err);
    if (!s) {
        *out = cJSON_CreateArray();
        cJSON *steps = cJSON_CreateObject(), *export = cJSON_CreateObject(),
              *step = cJSON_CreateObject();
        cJSON_AddItemToArray(*out, steps);
        cJSON_AddItemToArray(*out, export);
        cJSON_AddStringToObject(steps, "task", "steps");
        if (calibration) cJSON_AddItemToObject(steps, "calibration", calibration);
        cJSON_AddStringToObject(step, "use", method->id);
        cJSON_AddItemToObject(step, "with", cJSON_Duplicate(with, 1));
        cJSON_AddItemToArray(cJSON_AddArrayToObject(steps, "steps"), step);
        cJSON_AddStringToObject(export, "task", "export");
        if (cli_given(c, "format")) {
            cJSON_AddStringToObject(steps, "format", cli_text(c, "format"));
            cJSON_AddStringToObject(export, "format", cli_text(c, "format"));
        }
        cJSON_AddStringToObject(export, "output", cli_text(c, "output"));
    } else {
        cJSON_Delete(calibration);
    }
    free(source);
    cJSON_Delete(with);
    catalogue_close(cat);
    return s;
}

/* ---- the contract's object, and a summary for people ----------------------------------------- */
static void move(cJSON *to, cJSON *from, const char *key)
{
    cJSON *item = cJSON_DetachItemFromObjectCaseSensitive(from, key);
    if (item) cJSON_AddItemToObject(to, key, item);
}

static void add_json(cli *c, one_step_result *r)
{
    cJSON *steps = cJSON_GetArrayItem(r->results, 0), *export = cJSON_GetArrayItem(r->results, 1);
    cJSON *step = cJSON_GetArrayItem(json_get(steps, "steps"), 0), *j = c->json;
    cJSON_AddStringToObject(j, "method", json_str(step, "use", cli_text(c, "method")));
    cJSON_AddItemToObject(j, "params", cJSON_Duplicate(json_get(step, "with"), 1));
    cJSON_AddBoolToObject(j, "reused", json_bool(step, "reused", 0));
    move(j, steps, "effective_bits_per_weight");
    move(j, export, "bytes");
    move(j, steps, "seconds");
    cJSON *seconds = json_get(j, "seconds");
    json_add_num(seconds, "export", json_num(export, "seconds", 0));
    json_add_num(seconds, "total", r->seconds);
    cJSON_AddNumberToObject(j, "peak_rss_bytes", (double)r->peak_rss_bytes);
    move(j, steps, "calibration");
    move(j, steps, "layers");
    move(j, steps, "artifact");
    move(j, export, "format");
    move(j, export, "load_back");
    cJSON_AddStringToObject(j, "output", json_str(export, "path", cli_text(c, "output")));
}

/* Notes of the method, which a step that is reused does not log again. */
static void say_notes(const cli *c, const cJSON *layers)
{
    const cJSON *layer, *first = NULL;
    int n = 0;
    cJSON_ArrayForEach(layer, layers)
    {
        if (!cJSON_GetArraySize(json_get(layer, "notes"))) continue;
        if (!first) first = layer;
        n++;
    }
    const cJSON *note = first ? json_get(first, "notes")->child : NULL;
    if (cJSON_IsString(note))
        cli_say(c, "%d with a note (\"layers\" of --json FILE has all), the first %s: %s\n", n,
                json_str(first, "name", ""), note->valuestring);
}

static void say(const cli *c)
{
    char bytes[32], total[32], rss[32];
    const cJSON *j = c->json, *layer;
    double worst = -1;
    const char *name = "";
    cJSON_ArrayForEach(layer, json_get(j, "layers"))
    {
        double e = json_num(layer, "relative_error", 0);
        if (e > worst) worst = e, name = json_str(layer, "name", "");
    }
    format_size(json_int(j, "bytes", 0), bytes);
    format_size(json_int(j, "peak_rss_bytes", 0), rss);
    format_seconds(json_num(json_get(j, "seconds"), "total", 0), total);
    cli_say(c, "%s  %s, %.3f bits per weight, %s, peak memory %s\n", json_str(j, "output", ""),
            bytes, json_num(j, "effective_bits_per_weight", 0), total, rss);
    const cJSON *cal = json_get(j, "calibration");
    int64_t windows = json_int(cal, "windows", 0), asked = cli_int(c, "samples");
    char few[96] = "";
    if (!cli_given(c, "tokens") && windows < asked)
        snprintf(few, sizeof few, ", %lld of the %lld windows asked for, all that the data has",
                 (long long)windows, (long long)asked);
    if (cal)
        cli_say(c, "calibrated on %lld tokens%s%s%s\n", (long long)json_int(cal, "tokens", 0), few,
                json_bool(cal, "cached", 0) ? ", statistics from an earlier run" : "",
                json_bool(j, "reused", 0) ? "; the same step was done before and is reused" : "");
    if (worst >= 0)
        cli_say(c, "%d linears; largest relative error %.4g in %s\n",
                cJSON_GetArraySize(json_get(j, "layers")), worst, name);
    say_notes(c, json_get(j, "layers"));
}

/* The artifact gets a row in the registry's database, so that `sqz registry ls` shows it and gc
 * keeps what it needs. */
static sqz_status record(const cli *c, sqz_error *err)
{
    const cJSON *j = c->json, *params = json_get(j, "params");
    const char *method = json_str(j, "method", ""), *dot = strrchr(method, '.');
    artifact_row row = {0};
    registry *r;
    model_ref source;
    snprintf(row.digest, sizeof row.digest, "%s", json_str(j, "artifact", ""));
    sqz_status s = model_ref_open(c, c->args[0], &source, err);
    if (s) return s;
    s = cli_registry(c, &r, err);
    if (s) {
        model_ref_free(&source);
        return s;
    }
    cJSON *manifest = artifact_manifest(r, row.digest, err), *step = cJSON_CreateObject(),
          *steps = cJSON_CreateArray();
    cJSON_AddItemToArray(steps, step);
    cJSON_AddStringToObject(step, "use", method);
    cJSON_AddItemToObject(step, "with", cJSON_Duplicate(params, 1));
    if (!manifest)
        s = err->code == SQZ_E_NOMEM ? SQZ_E_NOMEM : ERR_STORAGE;
    else {
        snprintf(row.base, sizeof row.base, "%s", json_str(manifest, "base", ""));
        row.model = path_format("%s", source.folder);
        row.label = path_format("%s %lldb g%lld", dot ? dot + 1 : method,
                                (long long)json_int(params, "bits", 0),
                                (long long)json_int(params, "group_size", 0));
        row.steps_json = json_text(steps, 0);
        row.run = path_format("%s", "");
        row.bytes = json_int(j, "bytes", 0);
        row.created = (double)time(NULL);
        s = artifact_record(r, &row, source.digest[0] ? source.digest : NULL, err);
    }
    free(row.model);
    free(row.label);
    free(row.steps_json);
    free(row.run);
    cJSON_Delete(steps);
    cJSON_Delete(manifest);
    registry_close(r);
    model_ref_free(&source);
    return s;
}

/* Calibration reads text, so its tokenizer is whole; without it nobody has looked at the copy that
 * lies beside the weights now. */
static void tell_tokenizer(const cli *c)
{
    static const char *const files[] = {"tokenizer.json", "vocab.json", "tokenizer.model"};
    const char *folder = json_str(c->json, "output", "");
    int has = 0;
    for (int i = 0; i < 3 && !has; i++) {
        char *path = path_format("%s/%s", folder, files[i]);
        has = path_exists(path);
        free(path);
    }
    tokenizer *t = NULL;
    sqz_error why = {0};
    if (!has || cli_given(c, "calibration")) return;
    if (tokenizer_open(folder, &t, &why))
        terminal_log(SQZ_LOG_WARN,
                     "the weights are whole, but sqz cannot read text with them: %s; the file is "
                     "the model's, copied as it is",
                     why.text);
    else
        tokenizer_free(t);
}

static sqz_status run(cli *c, sqz_error *err)
{
    if (cli_given(c, "samples") && cli_given(c, "tokens"))
        return err_set(err, ERR_USAGE, "--samples and --tokens exclude each other");
    if (!cli_given(c, "method") || !cli_given(c, "output"))
        return err_set(err, ERR_USAGE, "--method and --output are needed");
    one_step o = {.title = "quantize", .model = c->args[0], .compute = cli_text(c, "compute")};
    one_step_result r;
    sqz_status s = make_tasks(c, &o.tasks, err);
    if (!s) s = one_step_run(c, &o, &r, err);
    if (s) return s;
    add_json(c, &r);
    one_step_free(&r);
    s = record(c, err);
    if (s) return s;
    say(c);
    tell_tokenizer(c);
    return SQZ_OK;
}

const command cmd_quantize = {
    .name = "quantize",
    .arguments = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .summary = "one method step and an export",
    .details =
        "Makes one compressed checkpoint, without a search. The calibration file is taken as "
        "it is. Statistics and finished steps are kept in the registry and reused.",
    .examples =
        "  sqz plugin list --kind method\n"
        "  sqz quantize examples/tiny-arith/model --method METHOD --bits 4 --group-size 128 \\\n"
        "      --calibration examples/tiny-arith/data/calib.jsonl --seq-len 256 --output out/q4\n"
        "  sqz quantize MODEL --method METHOD --bits 8 --asymmetric --output out/q8 --json -\n"
        "  sqz quantize MODEL --method METHOD --param damp=0.02 --calibration c.jsonl --output o\n",
    OPTIONS(options),
    .run = run};
